"""--model trained on from a checkpoint: the weights that torch's own training leaves, to the last bit."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from recompute.model_runs import ModelRun, own, stepped, trained, written
from safetensors.torch import save_file
from torch import optim

from gradscope.errors import UsageError
from gradscope.recompute.batches import draws
from gradscope.trial.arms import Arm
from gradscope.trial.model_feed import ModelFeed

if TYPE_CHECKING:
    from pathlib import Path

    from gradscope.recompute.trainee import Trainee

NUM_UPDATES = 11
"""In batches of 8 of 36 rows: the third epoch is begun."""
OPTIMIZERS: dict[str, Any] = {
    "Adam": partial(optim.Adam, lr=0.01, weight_decay=0.1),
    "AMSGrad": partial(optim.Adam, lr=0.01, amsgrad=True, betas=(0.8, 0.99)),
    "AdamW": partial(optim.AdamW, lr=0.01, weight_decay=0.1),
    "SGD": partial(optim.SGD, lr=0.05),
    "SGD momentum": partial(optim.SGD, lr=0.05, momentum=0.9, nesterov=True),
    "SGD dampened, maximizing": partial(optim.SGD, lr=0.01, momentum=0.5, dampening=0.1, maximize=True),
    "RMSprop": partial(optim.RMSprop, lr=0.01),
    "RMSprop centered": partial(optim.RMSprop, lr=0.01, centered=True, momentum=0.9, alpha=0.9),
    "Adagrad": partial(optim.Adagrad, lr=0.05, lr_decay=0.1),
    "Adadelta": partial(optim.Adadelta, lr=1.0),
    "NAdam": partial(optim.NAdam, lr=0.01, decoupled_weight_decay=True, weight_decay=0.1),
    "RAdam": partial(optim.RAdam, lr=0.01),
    "Adamax": partial(optim.Adamax, lr=0.01),
}


def trained_on(run: ModelRun, function: str | None = None) -> Trainee:
    """The training as it was, on the feed's batches."""
    found = run.recomputed(function=function)
    feed = ModelFeed(drawing=found.drawing, step=6, is_file=True)
    arm, drawn = Arm(trainee=found.trainee()), draws(5)
    with arm.trainee.session():
        for portion in feed.portions(arm, drawn, NUM_UPDATES, found.batch_size):
            arm.trainee.update(portion.batch, drawn)
    return arm.trainee


def by_torch(run: ModelRun, optimizer_of: Any, function: str | None = None) -> dict[str, Any]:
    """A training loop of the user's, from the checkpoint, on shuffled epochs."""
    model, loss = getattr(own(run.folder), function or run.function)()[:2]
    saved = torch.load(run.checkpoint)
    model.load_state_dict(saved["model"])
    optimizer = optimizer_of(model)
    optimizer.load_state_dict(saved["optimizer"])
    orders, torch_state = np.random.RandomState(5), torch.get_rng_state()
    torch.manual_seed(5)
    batches = [
        order[at : at + 8] for order in (orders.permutation(36) for _ in range(3)) for at in (0, 8, 16, 24)
    ]
    for chosen in batches[:NUM_UPDATES]:
        stepped(loss, optimizer, {name: each[chosen] for name, each in run.rows.items()})
    torch.set_rng_state(torch_state)
    return {name: each.detach() for name, each in model.named_parameters()}


def assert_same(trainee: Trainee, expected: dict[str, Any], run: ModelRun) -> None:
    saved = torch.load(run.checkpoint)["model"]
    assert list(trainee.parameters) == list(expected)
    for name, weight in expected.items():
        assert torch.equal(trainee.parameters[name].detach(), weight), name
    moved = {name for name, each in expected.items() if not torch.equal(each, saved[name])}
    assert len(moved) > len(expected) / 2


@pytest.mark.parametrize("function", ["classifier", "actor"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_after_updates_are_torchs_own(name: str, function: str, tmp_path: Path) -> None:
    """The classifier has dropout, batch norm and a frozen layer, which the optimizer holds all the same."""
    optimizer_of = OPTIMIZERS[name]
    run = trained(tmp_path, function, lambda model: optimizer_of(model.parameters()))
    trainee = trained_on(run)
    assert_same(trainee, by_torch(run, lambda model: optimizer_of(model.parameters())), run)
    kind = type(trainee.parts[0].optimizer)
    assert kind is optimizer_of.func
    assert f"torch.optim.{kind.__name__}" in trainee.notes[0]


def test_an_optimizer_over_what_is_trained_alone(tmp_path: Path) -> None:
    def optimizer_of(model: Any) -> Any:
        return optim.Adam([each for each in model.parameters() if each.requires_grad], lr=0.01)

    run = trained(tmp_path, "classifier", optimizer_of)
    trainee = trained_on(run)
    assert_same(trainee, by_torch(run, optimizer_of), run)
    assert "4.weight" not in trainee.layers


def test_groups_that_name_their_parameters(tmp_path: Path) -> None:
    def optimizer_of(model: Any) -> Any:
        named = dict(model.named_parameters())
        first = [(name, named.pop(name)) for name in ("mean.bias", "log_std")]
        return optim.AdamW([{"params": first, "lr": 0.03}, {"params": list(named.items())}], lr=0.01)

    run = trained(tmp_path, "actor", optimizer_of)
    trainee = trained_on(run)
    assert trainee.layers[:2] == ("mean.bias", "log_std")
    assert_same(trainee, by_torch(run, optimizer_of), run)


def test_groups_without_names_need_the_users_own_optimizer(tmp_path: Path) -> None:
    module = written(tmp_path)

    def optimizer_of(model: Any) -> Any:
        # Over another model of the same function, whose groups are in the same order.
        pattern = module.grouped()
        order = {id(each): name for name, each in pattern[0].named_parameters()}
        mine = dict(model.named_parameters())
        groups = [
            {**group, "params": [mine[order[id(each)]] for each in group["params"]]}
            for group in pattern[2].param_groups
        ]
        return optim.Adam(groups)

    run = trained(tmp_path, "actor", optimizer_of)
    with pytest.raises(UsageError, match=r"names no parameters.*return \(model, loss, optimizer\)"):
        run.recomputed().trainee()
    trainee = trained_on(run, "grouped")
    assert_same(trainee, by_torch(run, optimizer_of), run)
    assert trainee.layers[0] == "log_std"
    assert not any("taken for" in note for note in trainee.notes)


def test_the_optimizer_beside_a_safetensors_file(tmp_path: Path) -> None:
    """As Hugging Face's Trainer writes them."""
    run = trained(tmp_path, "actor", lambda model: optim.Adam(model.parameters(), lr=0.01))
    saved = torch.load(run.checkpoint)
    beside = ModelRun(
        folder=tmp_path, function="actor", checkpoint=tmp_path / "model.safetensors", rows=run.rows
    )
    save_file(saved["model"], beside.checkpoint)
    with pytest.raises(UsageError, match="holds no optimizer state; save it with the model"):
        beside.recomputed().trainee()
    torch.save(saved["optimizer"], tmp_path / "optimizer.pt")
    expected = by_torch(run, lambda model: optim.Adam(model.parameters()))
    assert_same(trained_on(beside), expected, run)


def test_trainings_share_nothing(tmp_path: Path) -> None:
    run = trained(tmp_path, "classifier", lambda model: optim.Adam(model.parameters(), lr=0.01))
    found = run.recomputed()
    before = next(found.batches()).gradients
    one, other = trained_on(run), trained_on(run)
    assert all(torch.equal(one.parameters[name], each) for name, each in other.parameters.items())
    mine, drawn = found.trainee(), draws(0)
    feed = ModelFeed(drawing=found.drawing, step=6, is_file=True)
    with mine.session():
        portion = next(feed.portions(Arm(trainee=mine), drawn, 1, 8))
        mine.update(portion.batch, drawn)
    after = next(found.batches()).gradients
    assert all(np.array_equal(after[name], each) for name, each in before.items())


def test_a_look_changes_neither_statistics_nor_chance(tmp_path: Path) -> None:
    run = trained(tmp_path, "classifier", lambda model: optim.Adam(model.parameters(), lr=0.01))
    found = run.recomputed()
    feed = ModelFeed(drawing=found.drawing, step=6, is_file=True)
    trainee, drawn = found.trainee(), draws(5)
    with trainee.session():
        for portion in feed.portions(Arm(trainee=trainee), drawn, NUM_UPDATES, 8):
            trainee.looked_at(portion.batch, draws(1))
            trainee.update(portion.batch, drawn)
    expected = trained_on(run)
    assert all(torch.equal(each, expected.parameters[name]) for name, each in trainee.parameters.items())
