"""Gradients through the user's own classes against the library's own train(), to the last bit."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from recompute.library import SAVE_EVERY, Case, Files, assert_equal, trained, world
from recompute.user_agents import NAME, gradients_in_train, importable, trusted, truth
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from gradscope.read.sb3_blobs import sb3_blobs
from gradscope.recompute.trusted.gradients import RecomputedPolicy

if TYPE_CHECKING:
    from pathlib import Path

NORMALIZED: dict[str, Any] = {"clip_obs": 2.0, "clip_reward": 1.5}
SHARED: dict[str, Any] = {"share_features_extractor": True}
EXTRACTORS = ("Plain", "Noisy", "Drifting", "Recurrent", "Attending")
ALGORITHMS = ("DQN", "QRDQN", "SAC", "TQC", "TD3", "DDPG")
Made = tuple[Case, Any]


def cases(users: Any) -> dict[str, Case]:
    """With the user's classes from their imported module."""
    found = {
        f"{algorithm} {name}": Case(
            algorithm=algorithm,
            normalize=NORMALIZED if name == "Noisy" else None,
            policy_kwargs={"net_arch": [8], "features_extractor_class": getattr(users, name)},
        )
        for algorithm in ALGORITHMS
        for name in (EXTRACTORS if algorithm in {"DQN", "SAC"} else EXTRACTORS[:3])
    }
    plain = {"net_arch": [8], "features_extractor_class": users.Plain}
    noisy = {"net_arch": [8], "features_extractor_class": users.Noisy}
    pixels = {
        "policy": "CnnPolicy",
        "space": spaces.Box(0, 255, (3, 18, 18), np.uint8),
        "policy_kwargs": {"net_arch": [8], "features_extractor_class": users.Pixels},
    }
    keyed = {
        "policy": "MultiInputPolicy",
        "space": spaces.Dict({"market": spaces.Box(-3, 3, (4,), np.float32), "mode": spaces.Discrete(3)}),
        "policy_kwargs": {"net_arch": [8], "features_extractor_class": users.Keyed},
    }
    return found | {
        **{f"{algorithm} pixels": Case(algorithm=algorithm, **pixels) for algorithm in ("DQN", "SAC")},
        **{f"{algorithm} keyed": Case(algorithm=algorithm, **keyed) for algorithm in ("DQN", "TD3")},
        "DQN pending": Case(
            algorithm="DQN", options={"target_update_interval": 20, "tau": 0.3}, policy_kwargs=noisy
        ),
        "DQN clips": Case(algorithm="DQN", options={"max_grad_norm": 0.01}, policy_kwargs=plain),
        "DQN policy": Case(algorithm="DQN", policy=users.DuelingPolicy),
        "DQN activation": Case(algorithm="DQN", policy_kwargs={"net_arch": [8], "activation_fn": users.Sine}),
        "QRDQN policy": Case(algorithm="QRDQN", policy=users.QuantilePolicy),
        "SAC policy": Case(
            algorithm="SAC", policy=users.TemperedPolicy, policy_kwargs={"net_arch": [8], "temperature": 0.5}
        ),
        "SAC shared": Case(algorithm="SAC", policy_kwargs={**noisy, **SHARED}, num_environments=2),
        "SAC fixed": Case(algorithm="SAC", policy_kwargs=plain, options={"ent_coef": 0.2}),
        "SAC n-step": Case(algorithm="SAC", policy_kwargs=plain, options={"n_steps": 3, "gamma": 0.9}),
        "SAC optimizer": Case(algorithm="SAC", policy_kwargs={**plain, "optimizer_class": users.HalfStep}),
        "SAC rmsprop": Case(algorithm="SAC", policy_kwargs={**plain, "optimizer_class": torch.optim.RMSprop}),
        "TD3 shared": Case(algorithm="TD3", policy_kwargs={**plain, **SHARED}),
        "SAC one encoder": Case(algorithm="SAC", policy=users.OneEncoder),
        "TD3 shared noisy": Case(algorithm="TD3", policy_kwargs={**noisy, **SHARED}, normalize=NORMALIZED),
    }


def compared(case: Case, checkpoint: Files, folder: Path | None, expected: Any) -> RecomputedPolicy:
    found = trusted(checkpoint, folder)
    assert isinstance(found, RecomputedPolicy), found
    (one,) = found.batches()
    assert_equal(one.gradients, expected)
    assert tuple(one.gradients) == found.layers
    assert all(len(rows) == 16 for rows in one.observations.values())
    assert case.algorithm in {"DQN", "QRDQN"} or one.clipping.clip_coefficient is None
    return found


@pytest.mark.filterwarnings("ignore:.*n_steps:UserWarning")
@pytest.mark.parametrize("name", cases(type("Names", (), {"__getattr__": lambda *_: None})()))
def test_every_tensor_is_the_librarys(name: str, tmp_path: Path) -> None:
    with importable(tmp_path) as users:
        # Every third until its buffer is full, the others to their first checkpoint.
        case = replace(cases(users)[name], steps=SAVE_EVERY * (2 if len(name) % 3 == 0 else 1))
        checkpoints = trained(case, tmp_path / "run")
        expected = [gradients_in_train(truth(case, each)) for each in checkpoints]
    assert NAME not in sys.modules
    for checkpoint, gradients in zip(checkpoints, expected, strict=True):
        found = compared(case, checkpoint, tmp_path, gradients)
        if case.policy_kwargs.get("features_extractor_class") is not None and "Plain" in name:
            assert any("unused" in layer for layer in found.layer_reasons)
            assert {reason for layer, reason in found.layer_reasons.items() if ".frozen." in layer} == {
                "frozen: requires_grad is False"
            }
    assert NAME not in sys.modules


@pytest.mark.parametrize("algorithm", ["DQN", "SAC", "TD3"])
def test_classes_that_the_file_carries_itself(algorithm: str, tmp_path: Path) -> None:
    class Carried(BaseFeaturesExtractor):
        def __init__(self, space: Any) -> None:
            super().__init__(space, 4)
            self.layer = torch.nn.Linear(6, 4)

        def forward(self, observations: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.layer(observations.flatten(1)))

    case = Case(
        algorithm=algorithm,
        policy_kwargs={
            "net_arch": [8],
            "features_extractor_class": Carried,
            "activation_fn": lambda: torch.nn.PReLU(2 - 1),
        },
    )
    checkpoint = trained(case, tmp_path)[0]
    assert sb3_blobs(checkpoint.zip).imports[0] == "Carried (carried by the file itself)"
    compared(case, checkpoint, None, gradients_in_train(truth(case, checkpoint)))


@pytest.mark.parametrize(
    ("algorithm", "extractor"), [("DQN", "Noisy"), ("SAC", "Drifting"), ("TD3", "Noisy")]
)
def test_the_fresh_network_is_a_new_model_of_the_seed(algorithm: str, extractor: str, tmp_path: Path) -> None:
    with importable(tmp_path) as users:
        case = Case(
            algorithm=algorithm,
            policy_kwargs={"net_arch": [8], "features_extractor_class": getattr(users, extractor)},
        )
        checkpoint = trained(case, tmp_path / "run")[0]
        model = case.maker("MlpPolicy", world(case), seed=5, policy_kwargs=case.policy_kwargs, device="cpu")
        model.load_replay_buffer(checkpoint.ring)
        model.set_logger(Logger(None, []))
        model.policy_delay = 1
        expected = gradients_in_train(model)
    found = trusted(checkpoint, tmp_path)
    one = next(found.fresh_batches())
    assert_equal(one.gradients, expected)


@pytest.mark.parametrize("extractor", ["Noisy", "Drifting"])
def test_batches_do_not_move_anything(extractor: str, tmp_path: Path) -> None:
    with importable(tmp_path) as users:
        case = Case(
            algorithm="SAC",
            policy_kwargs={"net_arch": [8], "features_extractor_class": getattr(users, extractor)},
        )
        checkpoint = trained(case, tmp_path / "run")[0]
    one, three = trusted(checkpoint, tmp_path), trusted(checkpoint, tmp_path, batches=3)
    first = next(one.batches())
    list(three.fresh_batches())
    again = [list(three.batches()), list(three.batches())]
    for batches in again:
        assert_equal(batches[0].gradients, dict(first.gradients))
    for left, right in zip(*again, strict=True):
        assert_equal(left.gradients, dict(right.gradients))
    assert any(np.any(again[0][1].gradients[name] != first.gradients[name]) for name in three.layers)


def test_modules_say_who_owns_a_layer(tmp_path: Path) -> None:
    with importable(tmp_path) as users:
        case = Case(
            algorithm="DQN", policy_kwargs={"net_arch": [8], "features_extractor_class": users.Attending}
        )
        checkpoint = trained(case, tmp_path / "run")[0]
    modules = trusted(checkpoint, tmp_path).modules
    assert modules["q_net.features_extractor.attention.in_proj_bias"] == "MultiheadAttention"
    assert modules["q_net.q_net.0.weight"] == "Linear"
