"""Optimizers as checkpoints hold them, against what torch and the producing libraries themselves hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC
from torch import nn, optim

from gradscope.errors import UnreadableFile
from gradscope.read import open_file
from gradscope.read.saved_optimizer import SavedOptimizer, saved_optimizer

if TYPE_CHECKING:
    from pathlib import Path


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def stepped(model: nn.Module, optimizer: Any) -> Any:
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(6, 4)).square().sum().backward()
        optimizer.step()
    return optimizer


def saved(path: Path, content: dict[str, Any]) -> Path:
    torch.save({"model": network().state_dict(), "step": 3, **content}, path)
    return path


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(each.shape) for name, each in model.named_parameters()}


def assert_same(found: SavedOptimizer, expected: dict[str, Any]) -> None:
    assert [dict(each) for each in found.groups] == expected["param_groups"]
    assert found.state.keys() == expected["state"].keys()
    for number, entries in expected["state"].items():
        assert found.state[number].keys() == entries.keys()
        for name, each in entries.items():
            assert np.array_equal(found.state[number][name], each), name


@pytest.mark.parametrize("key", ["optimizer", "optimizer_state_dict", "optimizer_states"])
def test_what_torch_saved_is_what_is_read(key: str, tmp_path: Path) -> None:
    model = network()
    state = stepped(model, optim.Adam(model.parameters(), lr=0.01)).state_dict()
    content = [state] if key == "optimizer_states" else state
    found = saved_optimizer(saved(tmp_path / "a.pt", {key: content}))
    assert isinstance(found, SavedOptimizer)
    assert_same(found, state)
    assert found.names([shapes(model)]) == tuple(shapes(model))


def test_an_order_that_does_not_fit_is_not_believed(tmp_path: Path) -> None:
    model = network()
    state = stepped(model, optim.Adam(list(model.parameters())[::-1])).state_dict()
    found = saved_optimizer(saved(tmp_path / "a.pt", {"optimizer": state}))
    assert isinstance(found, SavedOptimizer)
    assert "fits no order" in str(found.names([shapes(model)]))
    turned = dict(reversed(shapes(model).items()))
    assert found.names([shapes(model), turned]) == tuple(turned)


def test_networks_that_could_change_places(tmp_path: Path) -> None:
    """Without a state, in one group, no parameter differs from another."""
    model = nn.ModuleDict({"actor": network(), "critic": network()})
    for kind, is_told in ((optim.Adam, False), (optim.SGD, True)):
        made: Any = kind(model.parameters(), lr=0.1)
        for each in model.values():
            each(torch.randn(6, 4)).sum().backward()
        made.step()
        found = saved_optimizer(saved(tmp_path / f"{kind.__name__}.pt", {"optimizer": made.state_dict()}))
        assert isinstance(found, SavedOptimizer)
        names = found.names([shapes(model)])
        assert (names == tuple(shapes(model))) is is_told
        assert is_told or "fits several orders" in names


def test_optimizers_of_stable_baselines(tmp_path: Path) -> None:
    ppo = PPO("MlpPolicy", "Pendulum-v1", n_steps=32, batch_size=16, n_epochs=1, device="cpu")
    ppo.learn(32)
    ppo.save(tmp_path / "ppo.zip")
    found = saved_optimizer(tmp_path / "ppo.zip")
    assert isinstance(found, SavedOptimizer)
    assert_same(found, ppo.policy.optimizer.state_dict())
    sac = SAC("MlpPolicy", "Pendulum-v1", device="cpu", policy_kwargs={"net_arch": [4]})
    sac.save(tmp_path / "sac.zip")
    assert "holds 2 optimizers" in str(saved_optimizer(tmp_path / "sac.zip"))


def test_no_optimizer_says_what_to_save(tmp_path: Path) -> None:
    assert "holds no optimizer state; save it" in str(saved_optimizer(saved(tmp_path / "a.pt", {})))


def test_the_file_beside_is_read_only_where_it_is_torchs(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {})
    (tmp_path / "optimizer.pt").write_bytes(b"\x80\x04nonsense")
    assert isinstance(saved_optimizer(path), str)
    torch.save({"state": {}, "param_groups": [{"params": [0, 1], "lr": 0.1}]}, tmp_path / "optimizer.pt")
    assert isinstance(saved_optimizer(path), SavedOptimizer)
    whole = (tmp_path / "optimizer.pt").read_bytes()
    (tmp_path / "optimizer.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableFile, match=r"optimizer\.pt"):
        saved_optimizer(path)


@pytest.mark.parametrize(
    "strange",
    [
        3,
        {},
        {"state": {}, "param_groups": [3]},
        {"state": 3, "param_groups": [{"params": [0, 1, 2, 3]}]},
        {"state": {}, "param_groups": [{"lr": 0.1}]},
        {"state": {}, "param_groups": [{"params": [[0], [1], [2], [3]]}]},
        {"state": {0: {"exp_avg": "text"}, "x": 7}, "param_groups": [{"params": [0, 1, 2, 3]}]},
        {"state": {0: {"exp_avg": torch.zeros(9)}}, "param_groups": [{"params": [0, 1, 2, 3]}]},
    ],
    ids=str,
)
def test_what_is_no_state_of_an_optimizer_is_a_reason(strange: Any, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {"optimizer": strange})
    open_file(path)
    found = saved_optimizer(path)
    told = found if isinstance(found, str) else found.names([shapes(network())])
    assert isinstance(told, str)
    assert "optimizer" in told
