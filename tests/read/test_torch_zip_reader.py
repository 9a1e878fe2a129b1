"""torch zip checkpoints, compared with what torch loads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from gradscope.errors import UnreadableFile
from gradscope.read import open_file
from gradscope.records import Origin, Snapshot

if TYPE_CHECKING:
    from pathlib import Path


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def trained(optimizer: str = "Adam", **options: Any) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    model = network()
    chosen = getattr(torch.optim, optimizer)(model.parameters(), **options)
    model(torch.randn(8, 3)).pow(2).sum().backward()
    chosen.step()
    return model, chosen


def saved(path: Path, value: object, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


def opened(path: Path) -> Snapshot:
    record = open_file(path)
    assert isinstance(record, Snapshot)
    return record


def checkpoint(path: Path, **more: Any) -> Path:
    model, optimizer = trained()
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "grads": grads, "step": 6000}
    return saved(path, content | more)


def test_a_state_dict(tmp_path: Path) -> None:
    model = network()
    snapshot = opened(saved(tmp_path / "model_2000.pt", model.state_dict()))
    assert (snapshot.format, snapshot.step, snapshot.step_from) == ("torch", 2000, "name")
    assert list(snapshot.layers) == [name for name, _ in model.named_parameters()]
    for name, parameter in model.named_parameters():
        layer = snapshot.layers[name]
        np.testing.assert_array_equal(layer.weight, parameter.detach().numpy())
        assert layer.origin is Origin.NONE
        assert layer.reasons["gradient"].startswith("the checkpoint holds no gradients")
    assert snapshot.notes == ()


@pytest.mark.parametrize("model_key", ["model", "state_dict", "model_state_dict"])
@pytest.mark.parametrize("optimizer_key", ["optimizer", "optimizer_state_dict"])
@pytest.mark.parametrize("grads_key", ["grads", "gradients"])
@pytest.mark.parametrize("step_key", ["step", "global_step", "num_timesteps"])
def test_usual_keys(
    tmp_path: Path, model_key: str, optimizer_key: str, grads_key: str, step_key: str
) -> None:
    model, optimizer = trained()
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    content = {
        step_key: 6000,
        grads_key: grads,
        optimizer_key: optimizer.state_dict(),
        model_key: model.state_dict(),
    }
    snapshot = opened(saved(tmp_path / "c.pt", content))
    assert (snapshot.step, snapshot.step_from) == (6000, step_key)
    assert list(snapshot.layers) == [name for name, _ in model.named_parameters()]
    for name, parameter in model.named_parameters():
        layer = snapshot.layers[name]
        assert layer.origin is Origin.STORED
        assert parameter.grad is not None
        np.testing.assert_array_equal(layer.gradient, parameter.grad.numpy())
        np.testing.assert_array_equal(layer.weight, parameter.detach().numpy())
        for key, value in optimizer.state[parameter].items():
            np.testing.assert_array_equal(layer.moments[key], value.numpy())
        assert layer.reasons == {}


def test_parameters_without_a_gradient_say_so(tmp_path: Path) -> None:
    model, _ = trained()
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    grads["0.bias"] = None
    del grads["3.bias"]
    grads["3.weight"] = torch.zeros(5)
    grads["1.weight"] = "text"
    snapshot = opened(saved(tmp_path / "c.pt", {"model": model.state_dict(), "grads": grads}))
    missing = {name: layer.reasons.get("gradient") for name, layer in snapshot.layers.items()}
    assert missing["0.weight"] is None
    assert missing["0.bias"] == missing["3.bias"] == "no gradient reached this parameter"
    assert "shape (5,) is not the parameter's" in str(missing["3.weight"])
    assert "no plain tensor" in str(missing["1.weight"])
    assert [layer.origin is Origin.STORED for layer in snapshot.layers.values()].count(True) == 2


def test_gradients_without_weights(tmp_path: Path) -> None:
    snapshot = opened(saved(tmp_path / "c.pt", {"grads": {"a": torch.ones(3), "b": None}, "step": 1}))
    assert list(snapshot.layers) == ["a"]
    np.testing.assert_array_equal(snapshot.layers["a"].gradient, np.ones(3))


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t.t(),
        lambda t: t[1:, ::2],
        lambda t: t[2],
        lambda t: t[1, 1],
        lambda t: t[:0],
        lambda t: t.unsqueeze(0).expand(1, 4, 6),
        lambda t: t.as_strided((2, 2), (7, 1), 3),
        lambda t: torch.complex(t, t).conj(),
        lambda t: torch.complex(t, t).conj().imag,
        lambda t: nn.Parameter(t.t()),
    ],
)
def test_every_view(tmp_path: Path, view: Any) -> None:
    values = view(torch.arange(24, dtype=torch.float32).reshape(4, 6))
    layer = opened(saved(tmp_path / "m.pt", {"w": values, "other": torch.ones(1)})).layers["w"]
    np.testing.assert_array_equal(layer.weight, values.detach().resolve_conj().resolve_neg().numpy())
    assert layer.shape == tuple(values.shape)


@pytest.mark.parametrize("count", [2**60, 2**20])
def test_a_view_of_more_elements_than_bytes_is_no_layer(tmp_path: Path, count: int) -> None:
    wide = torch.zeros(1).expand(count)
    assert list(opened(saved(tmp_path / "m.pt", {"w": torch.ones(2), "wide": wide})).layers) == ["w"]
    snapshot = opened(saved(tmp_path / "g.pt", {"model": {"w": torch.ones(2)}, "grads": {"w": wide}}))
    assert snapshot.layers["w"].gradient is None
    assert "gradient" in snapshot.layers["w"].reasons


def test_statistics_and_integers_are_no_layers(tmp_path: Path) -> None:
    state = network().state_dict() | {"table": torch.arange(5), "mask": torch.ones(2, dtype=torch.bool)}
    names = set(opened(saved(tmp_path / "m.pt", state)).layers)
    assert names == {name for name, _ in network().named_parameters()}


@pytest.mark.parametrize(
    ("optimizer", "options"), [("SGD", {"lr": 0.1}), ("Adam", {}), ("SGD", {"lr": 0.1, "momentum": 0.9})]
)
def test_what_an_optimizer_keeps(tmp_path: Path, optimizer: str, options: dict[str, Any]) -> None:
    model, chosen = trained(optimizer, **options)
    path = saved(tmp_path / "c.pt", {"model": model.state_dict(), "optimizer": chosen.state_dict()})
    for name, parameter in model.named_parameters():
        layer = opened(path).layers[name]
        expected = {key: value for key, value in chosen.state[parameter].items() if value is not None}
        assert set(layer.moments) == set(expected)
        assert ("moments" in layer.reasons) == (not expected)


def test_named_groups_are_believed(tmp_path: Path) -> None:
    model = network()
    named = dict(model.named_parameters())
    groups = [
        {"params": [(name, p) for name, p in named.items() if p.ndim == 2], "weight_decay": 0.1},
        {"params": [(name, p) for name, p in named.items() if p.ndim == 1]},
    ]
    optimizer = torch.optim.AdamW(groups)
    model(torch.randn(8, 3)).sum().backward()
    optimizer.step()
    path = saved(tmp_path / "c.pt", {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    for name, parameter in named.items():
        found = opened(path).layers[name].moments["exp_avg"]
        np.testing.assert_array_equal(found, optimizer.state[parameter]["exp_avg"].numpy())


@pytest.mark.parametrize(
    ("step", "expected"), [(torch.tensor(7), 7), (np.int64(7), 7), (7.0, 7), (np.float32(7), 7)]
)
def test_steps_that_are_numbers_of_other_kinds(tmp_path: Path, step: Any, expected: int) -> None:
    assert opened(checkpoint(tmp_path / "c.pt", step=step)).step == expected


@pytest.mark.parametrize(
    "step", [-1, 10**30, "seven", None, [7], 1.5, {}, torch.ones(3), float("nan")], ids=str
)
def test_steps_that_are_none(tmp_path: Path, step: Any) -> None:
    snapshot = opened(checkpoint(tmp_path / "c.pt", step=step))
    assert snapshot.step is None
    assert "step" in snapshot.reasons
    assert "step is no step" in snapshot.notes[0]


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        3,
        None,
        "text",
        {"step": 4},
        {"optimizer": {}},
        {1: torch.ones(2)},
        {"n": torch.arange(3)},
        {"model": 3, "grads": 4},
    ],
    ids=str,
)
def test_what_holds_no_weights(tmp_path: Path, value: object) -> None:
    with pytest.raises(UnreadableFile, match="holds no weights"):
        open_file(saved(tmp_path / "m.pt", value))


def test_twenty_thousand_tensors(tmp_path: Path) -> None:
    parts = torch.arange(20_000.0).split(1)
    path = saved(tmp_path / "many.pt", {f"layer{index}.weight": part for index, part in enumerate(parts)})
    snapshot = opened(path)
    assert len(snapshot.layers) == 20_000
    np.testing.assert_array_equal(snapshot.layers["layer19999.weight"].weight, [19999.0])


def test_hostile_names_stay_texts(tmp_path: Path) -> None:
    names = ["a\nb", "\x1b[31m", "\u202e", "../../etc", "x" * 10_000, ""]
    assert list(opened(saved(tmp_path / "m.pt", {name: torch.ones(1) for name in names})).layers) == names


def test_nothing_runs(tmp_path: Path) -> None:
    marker = tmp_path / "marker"

    class Runs:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(marker),)

    snapshot = opened(saved(tmp_path / "m.pt", {"model": network().state_dict(), "x": Runs()}))
    assert len(list(snapshot.layers.values())) == 6
    assert not marker.exists()
    assert "mkdir" in snapshot.notes[0]
    torch.load(tmp_path / "m.pt", weights_only=False)
    assert marker.exists()
