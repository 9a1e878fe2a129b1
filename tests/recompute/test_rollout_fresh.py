"""The healthy baseline of on-policy policies: initialised as the library does it, on a rollout of its own."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from recompute.library import World, assert_equal
from recompute.rollout_library import OnPolicyCase, trained_on_policy, watched
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import set_random_seed

from gradscope.recompute.on_policy_fresh import fresh_policy

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = spaces.Box(0, 255, (1, 36, 36), np.uint8)
WIDE: dict[str, Any] = {"net_arch": [64, 48], "log_std_init": -0.7}


def shapes_of(policy: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(each.shape) for name, each in policy.named_parameters()}


def library_policy(maker: Any, name: str, space: Any, **kwargs: Any) -> Any:
    return maker(name, World(discrete=False, space=space), device="cpu", seed=1, policy_kwargs=kwargs).policy


@pytest.mark.parametrize(
    ("maker", "name", "space", "kwargs"),
    [
        (PPO, "MlpPolicy", None, WIDE),
        (PPO, "MlpPolicy", None, WIDE | {"ortho_init": False}),
        (PPO, "CnnPolicy", IMAGE, {"share_features_extractor": False}),
        (RecurrentPPO, "MlpLstmPolicy", None, WIDE | {"lstm_hidden_size": 32}),
        (RecurrentPPO, "MlpLstmPolicy", None, WIDE | {"enable_critic_lstm": False}),
    ],
)
def test_weights_are_drawn_as_the_librarys(maker: Any, name: str, space: Any, kwargs: dict[str, Any]) -> None:
    policy = library_policy(maker, name, space, **kwargs)
    fresh = fresh_policy(
        shapes_of(policy),
        3,
        is_orthogonal=kwargs.get("ortho_init", True),
        log_std=kwargs.get("log_std_init", 0.0),
    )
    assert list(fresh) == list(shapes_of(policy))
    for key, theirs in policy.state_dict().items():
        if key not in fresh:
            continue
        ours = fresh[key]
        assert ours.dtype == torch.float32
        if not theirs.any() or key == "log_std":
            assert torch.equal(ours, theirs), key
            continue
        assert not torch.equal(ours, theirs)
        if ours.numel() < 32:
            continue
        assert float(ours.abs().max()) == pytest.approx(float(theirs.abs().max()), rel=0.5), key
        assert float(ours.norm()) == pytest.approx(float(theirs.norm()), rel=0.3), key
        unit = torch.eye(len(products(theirs)))
        if len(unit) > 1 and torch.allclose(products(theirs), scale(theirs) * unit, atol=1e-4):
            assert torch.allclose(products(ours), scale(theirs) * unit, atol=1e-4), key


def products(weight: torch.Tensor) -> torch.Tensor:
    """Of rows (or columns, where they are fewer) with each other."""
    flat = weight.detach().flatten(1) if weight.dim() > 1 else weight.detach()[None]
    return flat @ flat.T if flat.shape[0] <= flat.shape[1] else flat.T @ flat


def scale(weight: torch.Tensor) -> float:
    return float(products(weight).diagonal().mean())


@pytest.mark.parametrize(
    "gain", [("mlp_extractor.policy_net.0", 2.0), ("action_net", 1e-4), ("value_net", 1.0)]
)
def test_gains_are_the_librarys(gain: tuple[str, float]) -> None:
    shapes = shapes_of(library_policy(PPO, "MlpPolicy", None, **WIDE))
    fresh = fresh_policy(shapes, 0, is_orthogonal=True, log_std=0.0)
    assert scale(fresh[f"{gain[0]}.weight"]) == pytest.approx(gain[1], rel=1e-4)
    assert math.isclose(float(fresh["log_std"].abs().max()), 0.0)


@pytest.mark.parametrize(
    "case",
    [
        OnPolicyCase(
            algorithm="PPO",
            action_space=spaces.Discrete(3),
            options={"clip_range_vf": 1e-3, "learning_rate": 0.05, "ent_coef": 0.01},
        ),
        OnPolicyCase(
            algorithm="RecurrentPPO",
            policy="MlpLstmPolicy",
            policy_kwargs={"net_arch": [6], "lstm_hidden_size": 5},
            options={"learning_rate": 0.05},
        ),
    ],
    ids=["PPO", "RecurrentPPO"],
)
def test_a_fresh_policy_counts_the_rollout_as_its_own(case: OnPolicyCase, tmp_path: Path) -> None:
    files = trained_on_policy(case, tmp_path)
    found = files.recomputed(batch_size=32)
    fresh = next(found.fresh_batches())
    shapes = {name: each.shape for name, each in next(found.batches()).gradients.items()}
    weights = fresh_policy(shapes, found.seed, is_orthogonal=True, log_std=0.0)

    model = case.maker.load(files.zip, device="cpu")
    model.set_logger(Logger(None, []))
    model.policy.load_state_dict(weights)
    model.rollout_buffer = copy.deepcopy(files.buffer)
    model._current_progress_remaining = files.progress
    model.batch_size, model.n_epochs = 32, 1
    judge_anew(model)
    seen = watched(model)
    set_random_seed(found.seed)
    model.train()
    assert_equal(fresh.gradients, seen[0])
    assert all(np.abs(each).max() > 0 for each in seen[0].values())


def judge_anew(model: Any) -> None:
    """Every batch comes with values and log-probabilities by the model's weights of now."""
    buffer = model.rollout_buffer
    original = buffer.get

    def get(batch_size: int) -> Any:
        for sample in original(batch_size):
            is_choice = isinstance(model.action_space, spaces.Discrete)
            actions = sample.actions.long().flatten() if is_choice else sample.actions
            memory = (sample.lstm_states, sample.episode_starts) if hasattr(sample, "lstm_states") else ()
            with torch.no_grad():
                values, log_prob, _ = model.policy.evaluate_actions(sample.observations, actions, *memory)
            yield sample._replace(old_values=values.flatten(), old_log_prob=log_prob)

    buffer.get = get
