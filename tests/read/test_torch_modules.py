"""Modules pickled whole and TorchScript, by the names that their state_dict() gives."""

from __future__ import annotations

import pickle
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from gradscope.errors import UnreadableFile
from gradscope.read import open_file

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning"
)


class Agent(nn.Module):
    """Parameters of its own, buffers of both kinds, a shared module, a list, an attribute that is no part."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(2))
        self.register_buffer("scale", torch.full((1,), 3.0))
        self.register_buffer("passing", torch.ones(1), persistent=False)
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU())
        self.memory = nn.LSTM(4, 2)
        self.heads = nn.ModuleList([nn.Linear(2, 1), nn.Embedding(5, 2)])
        self.twin = self.heads[0]
        self.seen = torch.zeros(7)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.body(rows) * self.scale
        out: torch.Tensor = self.heads[0](self.memory(found)[0] * self.gain)
        return out + self.passing


def assert_same(path: Path, state: dict[str, torch.Tensor]) -> Any:
    snapshot: Any = open_file(path)
    assert list(snapshot.state) == list(state)
    for name, tensor in state.items():
        np.testing.assert_array_equal(snapshot.state[name], tensor.detach().numpy())
    return snapshot


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "wrapped", [lambda m: m, nn.DataParallel, torch.compile], ids=["plain", "DataParallel", "compile"]
)
def test_a_module_saved_whole(tmp_path: Path, wrapped: Any, *, is_zip: bool) -> None:
    model = wrapped(Agent())
    torch.save(model, tmp_path / "m.pt", _use_new_zipfile_serialization=is_zip)
    snapshot = assert_same(tmp_path / "m.pt", model.state_dict())
    assert list(snapshot.layers) == [name for name, _ in model.named_parameters()]
    owners = {name: type(model.get_submodule(name.rpartition(".")[0])).__name__ for name in snapshot.layers}
    assert {name: layer.module for name, layer in snapshot.layers.items()} == owners
    assert "LSTM" in owners.values()
    assert "names code that was not loaded" in snapshot.notes[0]
    assert "test_torch_modules.Agent" in snapshot.notes[0]


def test_a_module_under_a_key_with_its_whole_optimizer(tmp_path: Path) -> None:
    """An optimizer pickled with its module refers to the very parameters: no order is guessed."""
    model = Agent()
    groups = [{"params": list(model.memory.parameters())}, {"params": list(model.body.parameters())}]
    optimizer = torch.optim.Adam(groups)
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    torch.save({"model": model, "optimizer": optimizer, "epoch": 4}, tmp_path / "c.pt")
    snapshot = assert_same(tmp_path / "c.pt", model.state_dict())
    assert (snapshot.step, snapshot.step_from) == (4, "epoch")
    for name, parameter in model.named_parameters():
        found = snapshot.layers[name].moments
        expected = optimizer.state.get(parameter, {})
        assert set(found) == set(expected)
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value.numpy())


def test_weight_norm_as_torch_pickles_it(tmp_path: Path) -> None:
    model = nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(2, 3)))
    torch.save(model, tmp_path / "m.pt")
    assert list(assert_same(tmp_path / "m.pt", model.state_dict()).layers) == [
        "0.bias",
        "0.weight_g",
        "0.weight_v",
    ]


def test_parametrized_modules_by_their_state_dict(tmp_path: Path) -> None:
    model = torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
    torch.save(model.state_dict(), tmp_path / "m.pt")
    snapshot = assert_same(tmp_path / "m.pt", model.state_dict())
    assert "parametrizations.weight.original0" in snapshot.layers


def test_tied_parameters_are_one_layer(tmp_path: Path) -> None:
    model = nn.ModuleDict({"table": nn.Embedding(4, 3), "out": nn.Linear(3, 4, bias=False)})
    model["out"].weight = model["table"].weight
    torch.save(model, tmp_path / "m.pt")
    assert list(assert_same(tmp_path / "m.pt", model.state_dict()).layers) == ["table.weight"]


def test_a_module_that_holds_itself(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    model._modules["again"] = model
    torch.save(model, tmp_path / "m.pt")
    snapshot: Any = open_file(tmp_path / "m.pt")
    assert list(snapshot.layers) == list(snapshot.state) == ["0.weight", "0.bias"]


def test_modules_shared_without_end(tmp_path: Path) -> None:
    """Each level holds the one below twice: 2^60 names."""
    model: nn.Module = nn.Linear(2, 2)
    for _ in range(60):
        model = nn.ModuleList([model, model])
    torch.save(model, tmp_path / "m.pt")
    with pytest.raises(UnreadableFile, match="hold each other without end"):
        open_file(tmp_path / "m.pt")


@pytest.mark.parametrize(
    "made", [torch.jit.script, lambda m: torch.jit.trace(m, torch.ones(5, 3))], ids=["s", "t"]
)
def test_torchscript(tmp_path: Path, made: Any) -> None:
    model = Agent()
    path = tmp_path / "policy_500.pt"
    torch.jit.save(made(model), path)
    snapshot: Any = open_file(path)
    assert (snapshot.format, snapshot.step, snapshot.step_from) == ("torchscript", 500, "name")
    state = torch.jit.load(path).state_dict()
    assert set(model.state_dict()) < set(state)  # buffers that pass are written too
    assert [name for name in snapshot.state if name != "seen"] == list(state)
    for name, tensor in state.items():
        np.testing.assert_array_equal(snapshot.state[name], tensor.detach().numpy())
    assert list(snapshot.layers) == [name for name, _ in model.named_parameters()]
    assert snapshot.layers["memory.weight_ih_l0"].module == "LSTM"
    (note,) = snapshot.notes
    assert note.startswith("TorchScript does not tell parameters, buffers and other tensors apart: ")
    assert note.endswith("layers are those that require a gradient")


def test_torchscript_whose_parameters_were_frozen(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).requires_grad_(requires_grad=False)
    torch.jit.save(torch.jit.script(model), tmp_path / "s.pt")
    snapshot = assert_same(tmp_path / "s.pt", torch.jit.load(tmp_path / "s.pt").state_dict())
    assert list(snapshot.layers) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert "layers are all that could be trained" in snapshot.notes[0]


def test_torchscript_that_was_frozen_has_constants_only(tmp_path: Path) -> None:
    model = nn.Linear(2, 3).eval()
    torch.jit.save(torch.jit.freeze(torch.jit.script(model)), tmp_path / "f.pt")
    found: Any = open_file(tmp_path / "f.pt")
    shapes = sorted(layer.shape for layer in found.layers.values())
    assert shapes == [(3,), (3, 2)]
    assert all(name.startswith("constants.") for name in found.layers)


def test_the_code_of_torchscript_is_never_inflated(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "s.pt")
    with zipfile.ZipFile(tmp_path / "s.pt") as old, zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
        for name in old.namelist():
            is_code = "/code/" in name
            content = b"\0" * (64 << 20) if is_code else old.read(name)
            new.writestr(name, content, zipfile.ZIP_DEFLATED if is_code else zipfile.ZIP_STORED)
    assert len(list(open_file(tmp_path / "b.pt").layers.values())) == 2


@pytest.mark.parametrize("constants", [b"", b"\x80\x02N.N.", b"\x80\x02K\x01Q."])
def test_torchscript_with_damaged_constants(tmp_path: Path, constants: bytes) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "s.pt")
    with zipfile.ZipFile(tmp_path / "s.pt") as old, zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
        for name in old.namelist():
            new.writestr(name, constants if name.endswith("constants.pkl") else old.read(name))
    with pytest.raises(UnreadableFile):
        open_file(tmp_path / "b.pt")


@pytest.mark.parametrize("value", [None, 3, {"a": 1}, []])
def test_torchscript_without_a_module(tmp_path: Path, value: object) -> None:
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
        new.writestr("b/data.pkl", pickle.dumps(value, 2))
        new.writestr("b/constants.pkl", pickle.dumps((), 2))
    with pytest.raises(UnreadableFile, match="holds no weights"):
        open_file(tmp_path / "b.pt")
