"""Optimizers that own some of a state dict: moments by name against the optimizer's own, or none."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from gradscope.read import open_file
from gradscope.read.grouped_moments import moments_in_groups
from gradscope.records import Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gradscope.records import Layer

SEVERAL = "fits several orders"


class Actor(nn.Module):
    """As CleanRL's for SAC: what scales its actions are buffers that lie before its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("action_scale", torch.full((2,), 2.0))
        self.register_buffer("action_bias", torch.zeros(2))
        self.fc1, self.fc_mean, self.fc_logstd = nn.Linear(5, 8), nn.Linear(8, 2), nn.Linear(8, 2)


class Language(nn.Module):
    """As nanoGPT's: the last layer's weight is the embedding's."""

    def __init__(self, blocks: int = 12) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(11, 6), nn.Embedding(7, 6)
        self.h = nn.ModuleList(nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6)) for _ in range(blocks))
        self.lm_head = nn.Linear(6, 11, bias=False)
        self.lm_head.weight = self.wte.weight


class Agent(nn.Module):
    """Networks of the same shapes: only their order tells them apart."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("actor", "critic", "actor_target"):
            size = 3 if name == "critic" else 2
            setattr(self, name, nn.Sequential(nn.Linear(4, 6), nn.Linear(6, size)))


def layers(path: Path, model: nn.Module, groups: Any) -> tuple[Mapping[str, Layer], Mapping[str, Any]]:
    """Layers of a checkpoint after a step with a gradient of its own for each parameter; the true moments."""
    optimizer = torch.optim.AdamW(groups)
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, number + 1.0)
    optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 1}, path)
    found = open_file(path)
    assert isinstance(found, Snapshot)
    return found.layers, {name: optimizer.state.get(each) for name, each in model.named_parameters()}


def assert_told(found: Mapping[str, Layer], truth: Mapping[str, Any], *but: str) -> None:
    for name, state in truth.items():
        if not state or name in but:
            assert not found[name].moments
        else:
            np.testing.assert_array_equal(found[name].moments["exp_avg"], state["exp_avg"].numpy())
            np.testing.assert_array_equal(found[name].moments["exp_avg_sq"], state["exp_avg_sq"].numpy())


def decayed(model: nn.Module) -> list[dict[str, Any]]:
    known = list(model.parameters())
    return [{"params": [p for p in known if p.ndim > 1]}, {"params": [p for p in known if p.ndim < 2]}]


def test_buffers_of_a_models_own(tmp_path: Path) -> None:
    found, truth = layers(tmp_path / "m.pt", model := Actor(), model.parameters())
    assert_told(found, truth)
    assert found["action_scale"].reasons["moments"] == "no optimizer in the file owns this parameter"


@pytest.mark.parametrize("in_groups", [False, True])
def test_tied_weights(tmp_path: Path, *, in_groups: bool) -> None:
    model = Language()
    found, truth = layers(tmp_path / "m.pt", model, decayed(model) if in_groups else model.parameters())
    assert_told(found, truth)
    assert found["lm_head.weight"].reasons["moments"].startswith("it is the same tensor as wte.weight")


@pytest.mark.parametrize(
    "owned", [["0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias"], ["0.0.weight", "0.1.weight"]]
)
def test_frozen_parameters_are_not_told_from_another_networks(tmp_path: Path, owned: list[str]) -> None:
    model = Language(1)
    moved = [each for name, each in model.h.named_parameters() if name in owned]
    found, truth = layers(tmp_path / "m.pt", model, moved)
    assert_told(found, truth, *truth)


@pytest.mark.parametrize("is_first", [True, False])
def test_the_temperatures_optimizer_owns_no_bias(tmp_path: Path, *, is_first: bool) -> None:
    actor = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
    actor(torch.ones(2, 3)).sum().backward()
    alpha = torch.zeros(1)
    alpha.grad = torch.full((1,), 7.0)
    own, other = torch.optim.Adam(actor.parameters()), torch.optim.Adam([alpha])
    own.step()
    other.step()
    named = {"alpha_optimizer": other.state_dict(), "optimizer": own.state_dict()}
    saved = {"net": actor.state_dict(), **(named if is_first else dict(reversed(named.items())))}
    torch.save(saved, tmp_path / "both_1.pt")
    torch.save({key: each for key, each in saved.items() if key != "optimizer"}, tmp_path / "alone_1.pt")
    both, alone = open_file(tmp_path / "both_1.pt"), open_file(tmp_path / "alone_1.pt")
    assert isinstance(both, Snapshot)
    assert isinstance(alone, Snapshot)
    assert_told(both.layers, {name: own.state[each] for name, each in actor.named_parameters()})
    assert not any(layer.moments for layer in alone.layers.values())


def test_an_optimizer_of_a_network_that_was_not_saved(tmp_path: Path) -> None:
    saved = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    other = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    other(torch.ones(1, 3)).sum().backward()
    optimizer = torch.optim.Adam(other.parameters())
    optimizer.step()
    torch.save({"generator": saved.state_dict(), "optimizer_d": optimizer.state_dict()}, tmp_path / "m_1.pt")
    found = open_file(tmp_path / "m_1.pt")
    assert isinstance(found, Snapshot)
    assert not any(layer.moments for layer in found.layers.values())


def test_factored_moments_have_no_shape_of_a_parameter(tmp_path: Path) -> None:
    layer = nn.Linear(8, 8)
    state = {0: {"step": 1, "exp_avg_sq_row": torch.ones(8), "exp_avg_sq_col": torch.ones(8)}}
    optimizer = {"state": state, "param_groups": [{"params": [0], "lr": 0.1}]}
    torch.save({"model": layer.state_dict(), "optimizer": optimizer}, tmp_path / "m_1.pt")
    found = open_file(tmp_path / "m_1.pt")
    assert isinstance(found, Snapshot)
    assert not any(each.moments for each in found.layers.values())


def test_a_buffer_that_could_be_a_parameter(tmp_path: Path) -> None:
    model = Actor()
    model.log_std = nn.Parameter(torch.zeros(2))
    found, truth = layers(tmp_path / "m.pt", model, model.parameters())
    assert_told(found, truth, "log_std")
    assert SEVERAL in found["log_std"].reasons["moments"]


def test_groups_in_no_order_of_the_model_are_not_guessed(tmp_path: Path) -> None:
    model = Language(2)
    found, truth = layers(tmp_path / "m.pt", model, [{"params": [*model.parameters()][::-1]}, {"params": []}])
    assert_told(found, truth, *truth)
    # Sorted names (minGPT) put each bias before its weight: of one shape they change places unseen.
    norms = nn.Sequential(nn.LayerNorm(5), nn.LayerNorm(5), nn.Linear(5, 2))
    norms.register_buffer("scale", torch.ones(1))
    found, truth = layers(tmp_path / "m.pt", norms, dict(sorted(norms[:2].named_parameters())).values())
    assert_told(found, truth, *truth)


def test_a_network_and_its_target_could_change_places(tmp_path: Path) -> None:
    model = Agent()
    both = [*model.critic.parameters(), *model.actor.parameters()]
    found, truth = layers(tmp_path / "m.pt", model, both)
    assert_told(found, truth, *truth)


def test_no_state_says_why(tmp_path: Path) -> None:
    model = Actor()
    sgd = torch.optim.SGD(decayed(model), lr=0.1)
    torch.save({"model": model.state_dict(), "optimizer": sgd.state_dict()}, tmp_path / "m.pt")
    found = open_file(tmp_path / "m.pt")
    assert isinstance(found, Snapshot)
    for layer in found.layers.values():
        assert layer.reasons["moments"] == "SGD without momentum keeps no state"
    trainers = moments_in_groups(sgd.state_dict(), {}, is_in_order=False)  # as of Hugging Face's Trainer
    assert trainers.reason == "SGD without momentum keeps no state"


def test_many_optimizers_of_many_equal_networks_take_no_time(tmp_path: Path) -> None:
    tensor, state = torch.zeros(2), {0: {"exp_avg": torch.zeros(2)}}
    groups = [{"params": list(range(60))}]
    saved: dict[str, Any] = {f"net{n}": {f"{i}.weight": tensor for i in range(120)} for n in range(12)}
    saved |= {f"optim{n}": {"state": dict(state), "param_groups": groups * 20} for n in range(16)}
    torch.save(saved, tmp_path / "m_1.pt")
    started = time.perf_counter()
    assert isinstance(found := open_file(tmp_path / "m_1.pt"), Snapshot)
    assert len(found.layers) == 12 * 120
    assert time.perf_counter() - started < 20
