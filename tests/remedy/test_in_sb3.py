"""The norms inside real Stable-Baselines3 trainings: learned with, saved, loaded, copied to targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from record.worlds import NUM_BARS, NUM_FEATURES, Market
from remedy.worlds import ALGORITHMS, NORMS, fresh

if TYPE_CHECKING:
    from pathlib import Path


def norms(model: Any) -> dict[str, torch.nn.Module]:
    kinds = tuple(NORMS.values())
    return {name: each for name, each in model.policy.named_modules() if isinstance(each, kinds)}


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        *((name, "SliceNormalizer") for name in ALGORITHMS),
        ("DQN", "InputLayerNorm"),
        ("PPO", "InputLayerNorm"),
    ],
)
def test_a_model_learns_saves_and_goes_on(name: str, norm: str, tmp_path: Path) -> None:
    model = fresh(name, norm)
    untrained = {key: value.clone() for key, value in model.policy.state_dict().items()}
    model.learn(110)
    state = model.policy.state_dict()
    assert all(torch.isfinite(value).all() for value in state.values())
    changed = {key for key, value in state.items() if not torch.equal(value, untrained[key])}
    assert any(".norm." in key for key in changed)
    assert any("projection.weight" in key for key in changed)
    model.save(tmp_path / "model")
    loaded = ALGORITHMS[name][0].load(tmp_path / "model", env=Market(discrete=name in {"DQN", "PPO"}))
    assert all(torch.equal(value, state[key]) for key, value in loaded.policy.state_dict().items())
    rows = np.full((3, NUM_BARS * NUM_FEATURES), 7, np.float32)
    assert np.array_equal(
        loaded.predict(rows, deterministic=True)[0], model.predict(rows, deterministic=True)[0]
    )
    loaded.learn(64)
    assert any(not torch.equal(value, state[key]) for key, value in loaded.policy.state_dict().items())


PAIRS = {
    "DQN": [("q_net", "q_net_target")],
    "SAC": [("critic", "critic_target")],
    "TD3": [("critic", "critic_target"), ("actor", "actor_target")],
}


@pytest.mark.parametrize("name", PAIRS)
def test_target_networks_get_the_running_statistics(name: str) -> None:
    model = fresh(name)
    model.learn(110)
    for online, target in PAIRS[name]:
        ours, theirs = getattr(model.policy, online).state_dict(), getattr(model.policy, target).state_dict()
        running = [key for key in ours if "running_" in key]
        assert len(running) == 6 * sum(online in key.split(".") for key in norms(model))
        for key in running:
            assert ours[key].any(), key
            if name != "DQN":  # its copies are up to target_update_interval steps old
                assert torch.equal(theirs[key], ours[key]), key
        counts = [state[next(key for key in running if "num_active" in key)] for state in (ours, theirs)]
        assert 0 < counts[1][3] <= counts[0][3]


def test_statistics_are_those_of_the_rows_the_network_was_trained_on() -> None:
    """DQN's online network sees observations only: count them from outside."""
    model = fresh("DQN", train_freq=1)
    seen: list[torch.Tensor] = []
    norm = model.policy.q_net.features_extractor.norm
    norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]) if module.training else None)
    model.learn(100)
    rows = torch.cat(seen).reshape(-1, NUM_FEATURES).double()
    assert norm.running_num_rows[0] == len(rows) == 80 * 16 * NUM_BARS
    torch.testing.assert_close(norm.running_mean, rows.mean(dim=0))
    held = rows[:, 3]
    torch.testing.assert_close(norm.running_mean_square[3], held[held != 0].square().mean())


def test_collecting_experience_moves_no_statistic() -> None:
    model = fresh("PPO", n_steps=64)
    norm = model.policy.features_extractor.norm
    rows = np.ones((5, NUM_BARS * NUM_FEATURES), np.float32)
    model.predict(rows)
    model.policy.set_training_mode(False)
    model.policy.predict_values(torch.from_numpy(rows))
    assert not norm.running_num_rows.any()
    model.learn(64)
    assert norm.running_num_rows[0] == 64 * NUM_BARS * 2  # two epochs


def test_a_target_of_dqn_is_protected_by_the_clip_until_its_statistics_come() -> None:
    model = fresh("DQN", target_update_interval=10_000)
    model.learn(110)
    target, online = (
        getattr(model.policy, each).features_extractor.norm for each in ("q_net_target", "q_net")
    )
    opened = torch.full((1, NUM_BARS * NUM_FEATURES), 5000.0)
    assert not target.running_num_rows.any()
    assert online.running_num_active[3] > 0
    assert target(opened).abs().max() == 10
    target.clip = None
    assert target(opened).abs().max() == 5000
