"""--model: gradients of any PyTorch model against its own training loop, to the last bit."""

from __future__ import annotations

import copy
import importlib
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from gradscope.errors import UsageError
from gradscope.read import open_file
from gradscope.read.batch_file import read_batch
from gradscope.recompute import Refusal
from gradscope.recompute.trusted.model import RecomputedModel, recompute_model
from gradscope.records import Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

torch.set_num_threads(1)
NAME = "user_model_of_tests"
SOURCE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(9, 6, sparse=False)
        self.mix = nn.MultiheadAttention(6, 2, dropout=0.2, batch_first=True)
        self.norm = nn.BatchNorm1d(6)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(6, 9, bias=False)
        self.head.weight = self.words.weight

    def forward(self, tokens):
        seen = self.words(tokens)
        seen = self.mix(seen, seen, seen)[0].mean(1)
        return self.head(torch.relu(self.frozen(self.norm(seen))))


def make():
    model = Net()

    def loss(batch):
        return nn.functional.cross_entropy(model(batch["tokens"]), batch["next"], label_smoothing=0.1)

    return model, loss


class Factory:
    make = staticmethod(make)


ALWAYS = make()


def always():
    return ALWAYS


def no_pair():
    return Net()


def no_model():
    return "model", print


def no_scalar():
    model = Net()
    return model, lambda batch: model(batch["tokens"])


def no_graph():
    model = Net()
    return model, lambda batch: model(batch["tokens"]).mean().detach()


def wrong_key():
    model = Net()
    return model, lambda batch: model(batch["text"]).mean()


def fails_later():
    model, loss = make()
    calls = []

    def counted(batch):
        calls.append(1)
        if len(calls) > 2:
            raise RuntimeError("enough")
        return loss(batch)

    return model, counted
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Module, a checkpoint {model, optimizer, step} after real training, and a batch file."""
    path = tmp_path_factory.mktemp("supervised")
    (path / f"{NAME}.py").write_text(SOURCE)
    torch.manual_seed(0)
    model, loss = own(path).make()
    rows = {"tokens": torch.randint(0, 8, (40, 5)), "next": torch.randint(0, 8, (40,))}
    optimizer = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], lr=0.01)
    for _ in range(10):
        optimizer.zero_grad()
        loss(rows).backward()
        optimizer.step()
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 10}
    torch.save(content, path / "checkpoint.pt")
    torch.save(rows, path / "batch.pt")
    return path


def own(folder: Path) -> Any:
    """The module as the user's own script has it."""
    sys.path.insert(0, str(folder))
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        importlib.invalidate_caches()
        return importlib.import_module(NAME)
    finally:
        sys.dont_write_bytecode = kept
        sys.path.remove(str(folder))
        sys.modules.pop(NAME, None)


def whole_state(folder: Path) -> Mapping[str, Any]:
    """The checkpoint's, as ``run/recomputed.py`` hands it over."""
    record = open_file(folder / "checkpoint.pt")
    assert isinstance(record, Snapshot)
    return record.state


def recomputed(folder: Path, function: str = "make", **options: Any) -> Any:
    given = {"batches": 3, "batch_size": None, "seed": 4, "code": folder} | options
    weights = given.pop("weights", None) or whole_state(folder)
    return recompute_model(f"{NAME}:{function}", weights, read_batch(folder / "batch.pt"), **given)


def loop(folder: Path, *, load: bool, chosen: Any = None) -> dict[str, Any]:
    """The user's own backward on these rows, after seeding with 4."""
    users = own(folder)
    torch.manual_seed(4)
    model, loss = users.make()
    if load:
        model.load_state_dict(torch.load(folder / "checkpoint.pt")["model"])
    rows = torch.load(folder / "batch.pt")
    torch.manual_seed(4)
    loss(rows if chosen is None else {name: each[chosen] for name, each in rows.items()}).backward()
    return {name: each.grad.numpy() for name, each in model.named_parameters() if each.grad is not None}


def assert_same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, gradient in expected.items():
        assert found[name].tobytes() == gradient.tobytes(), name


def test_all_rows_are_one_batch_as_in_the_users_own_loop(folder: Path) -> None:
    found = recomputed(folder)
    assert isinstance(found, RecomputedModel), found
    (one,) = found.batches()
    assert_same(one.gradients, loop(folder, load=True))
    assert found.layers == tuple(one.gradients)
    assert (found.num_batches, found.batch_size, found.seed) == (1, 40, 4)
    assert found.reasons == {"batch_size": "all rows of the batch file are one batch"}
    assert found.layer_reasons == {
        "frozen.weight": "frozen: requires_grad is False",
        "frozen.bias": "frozen: requires_grad is False",
        "unused.weight": "no gradient reached this parameter",
        "unused.bias": "no gradient reached this parameter",
    }
    assert found.modules["mix.in_proj_bias"] == "MultiheadAttention"
    assert found.modules["words.weight"] == "Embedding"
    norm = np.sqrt(sum(float((each.astype(np.float64) ** 2).sum()) for each in one.gradients.values()))
    assert one.clipping.norm_before_clip == pytest.approx(norm)
    assert one.clipping.clip_coefficient is None
    assert np.all(one.gradients["words.weight"].shape == (9, 6))


def test_drawn_batches_are_numpys_choice(folder: Path) -> None:
    found = recomputed(folder, batch_size=16, batches=2)
    first, second = found.batches()
    chosen = np.random.RandomState(4).choice(40, 16, replace=False)
    assert_same(first.gradients, loop(folder, load=True, chosen=chosen))
    assert first.observations["tokens"].shape == (16, 5)
    assert not np.array_equal(first.observations["tokens"], second.observations["tokens"])
    for one, other in zip(found.batches(), (first, second), strict=True):
        assert_same(one.gradients, other.gradients)


def test_the_fresh_model_is_what_the_function_gives_after_the_seed(folder: Path) -> None:
    one = next(recomputed(folder).fresh_batches())
    assert_same(one.gradients, loop(folder, load=False))


def test_a_function_that_always_gives_one_model_has_no_fresh_one(folder: Path) -> None:
    found = recomputed(folder, "always")
    (one,) = found.batches()
    assert_same(one.gradients, loop(folder, load=True))
    assert list(found.fresh_batches()) == []


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "net.inner."])
def test_names_of_wrapped_models_are_the_checkpoints(folder: Path, prefix: str) -> None:
    weights = {prefix + name: each for name, each in whole_state(folder).items()}
    found = recomputed(folder, weights=weights)
    (one,) = found.batches()
    assert_same(one.gradients, {prefix + name: each for name, each in loop(folder, load=True).items()})
    assert found.modules[f"{prefix}mix.in_proj_bias"] == "MultiheadAttention"


def changed(folder: Path, change: Any) -> dict[str, Any]:
    weights = dict(whole_state(folder).items())
    change(weights)
    return weights


WRONG_WEIGHTS = {
    "missing": (lambda w: w.pop("norm.bias"), "the model has norm.bias, the checkpoint has not"),
    "unexpected": (
        lambda w: w.update({"extra.bias": np.zeros(2, np.float32)}),
        "the checkpoint has extra.bias, the model has not",
    ),
    "renamed": (
        lambda w: w.update({"normal.bias": w.pop("norm.bias")}),
        "the model has norm.bias, the checkpoint has not; the checkpoint has normal.bias, the model has not",
    ),
    "shape": (
        lambda w: w.update({"norm.bias": np.zeros(7, np.float32)}),
        "norm.bias is (7,) in the checkpoint, (6,) in the model",
    ),
}


@pytest.mark.parametrize("name", WRONG_WEIGHTS)
def test_weights_of_another_model(name: str, folder: Path) -> None:
    change, line = WRONG_WEIGHTS[name]
    assert recomputed(folder, weights=changed(folder, change)) == Refusal(reason=line)


FAILED = "the user's code failed: "
WRONG_FUNCTIONS = {
    "no_pair": "the --model function returned a Net, not (model, loss)",
    "no_model": "the --model function returned (a str, a builtin_function_or_method): "
    "not a torch.nn.Module and a function",
    "no_scalar": "the loss is no scalar tensor with gradients but a tensor of (40, 9)",
    "no_graph": "the loss is no scalar tensor with gradients but a tensor of () without gradients",
    "wrong_key": f"{FAILED}KeyError: 'text'",
    "Net": "the --model function returned a Net, not (model, loss)",
    "nothing": f"module {NAME} has no function nothing",
}


@pytest.mark.parametrize("function", WRONG_FUNCTIONS)
def test_functions_of_another_kind(function: str, folder: Path) -> None:
    found = recomputed(folder, function)
    assert isinstance(found, Refusal)
    assert found.reason.startswith(WRONG_FUNCTIONS[function])
    assert "\n" not in found.reason


def test_a_dotted_function(folder: Path) -> None:
    assert isinstance(recomputed(folder, "Factory.make"), RecomputedModel)


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("model", "--model model is not package.module:function"),
        (":make", "--model :make is not package.module:function"),
        ("no_such.module:make", "module no_such not found: name its folder with --code DIR, or install it"),
    ],
)
def test_what_the_spec_must_be(spec: str, line: str, folder: Path) -> None:
    weights, rows = whole_state(folder), read_batch(folder / "batch.pt")
    found = recompute_model(spec, weights, rows, batches=1, batch_size=None, seed=0, code=folder)
    assert found == Refusal(reason=line)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"batch_size": 41}, "a batch of 41 is larger than the batch file's 40 rows"),
        ({"batch_size": 0}, "3 batches of 0 rows are no batches"),
        ({"batches": 0}, "0 batches of None rows are no batches"),
        ({"seed": -1}, "the seed must be between 0 and 4294967295, not -1"),
    ],
)
def test_batches_that_cannot_be(options: dict[str, Any], line: str, folder: Path) -> None:
    assert recomputed(folder, **options) == Refusal(reason=line)


def test_a_later_batch_that_fails(folder: Path) -> None:
    found = recomputed(folder, "fails_later", batch_size=8)
    assert isinstance(found, RecomputedModel)
    with pytest.raises(UsageError, match="RuntimeError: enough"):
        list(found.batches())


def test_half_precision_and_sparse_gradients(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.py").write_text(
        "import torch\n"
        "def make():\n"
        "    words, head = torch.nn.Embedding(5, 4, sparse=True), torch.nn.Linear(4, 1).bfloat16()\n"
        "    model = torch.nn.ModuleList([words, head])\n"
        "    return model, lambda batch: head(words(batch['0']).bfloat16()).float().mean()\n"
    )
    model, loss = own(tmp_path).make()
    torch.save(copy.deepcopy(model).state_dict(), tmp_path / "checkpoint.pt")
    torch.save((torch.tensor([1, 3]),), tmp_path / "batch.pt")
    (one,) = recomputed(tmp_path).batches()
    loss({"0": torch.tensor([1, 3])}).backward()
    gradient = model[0].weight.grad
    assert gradient is not None
    np.testing.assert_array_equal(one.gradients["0.weight"], gradient.to_dense().numpy())
    assert isinstance(model[1], nn.Linear)
    assert one.gradients["1.weight"].dtype == np.float32
    np.testing.assert_array_equal(one.gradients["1.weight"], model[1].weight.grad.float().numpy())


def test_nothing_of_the_users_is_left(folder: Path) -> None:
    before = list(sys.path), torch.get_rng_state().tolist(), set(folder.iterdir())
    list(recomputed(folder).batches())
    assert (list(sys.path), torch.get_rng_state().tolist(), set(folder.iterdir())) == before
    assert NAME not in sys.modules
