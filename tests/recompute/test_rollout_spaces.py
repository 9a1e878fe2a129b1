"""Rollouts of images, Dict spaces and numbers: extractors shared or not, gradients equal to the last bit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gymnasium import spaces
from recompute.library import assert_equal
from recompute.rollout_library import OnPolicyCase, trained_on_policy

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = spaces.Box(0, 255, (1, 36, 36), np.uint8)
MIXED = spaces.Dict(
    {
        "picture": IMAGE,
        "vector": spaces.Box(-1, 1, (2, 2), np.float32),
        "choice": spaces.Discrete(5),
        "choices": spaces.MultiDiscrete([2, 3]),
        "switches": spaces.MultiBinary(3),
    }
)
CNN: dict[str, Any] = {"features_extractor_kwargs": {"features_dim": 8}}
COMBINED: dict[str, Any] = {"features_extractor_kwargs": {"cnn_output_dim": 6}, "net_arch": [7]}
PICTURES = OnPolicyCase(algorithm="PPO", policy="CnnPolicy", space=IMAGE, policy_kwargs=CNN)
DICTS = OnPolicyCase(algorithm="PPO", policy="MultiInputPolicy", space=MIXED, policy_kwargs=COMBINED)
CASES: dict[str, OnPolicyCase] = {
    "images": PICTURES,
    "images, two extractors, ReLU nets": replace(
        PICTURES,
        num_environments=2,
        policy_kwargs=CNN | {"share_features_extractor": False, "net_arch": {"pi": [5], "vf": []}},
    ),
    "images, A2C, Discrete": replace(PICTURES, algorithm="A2C", action_space=spaces.Discrete(3)),
    "images as MlpPolicy": replace(PICTURES, policy="MlpPolicy", policy_kwargs={"net_arch": [6]}),
    "Dict": DICTS,
    "Dict, A2C, VecNormalize of a key": replace(
        DICTS, algorithm="A2C", num_environments=2, normalize={"norm_obs_keys": ["vector"]}
    ),
    "Dict, two extractors": replace(DICTS, policy_kwargs=COMBINED | {"share_features_extractor": False}),
    "recurrent images": replace(
        PICTURES,
        algorithm="RecurrentPPO",
        policy="CnnLstmPolicy",
        policy_kwargs=CNN | {"lstm_hidden_size": 5, "enable_critic_lstm": False, "shared_lstm": True},
    ),
    "Discrete observations": OnPolicyCase(algorithm="PPO", space=spaces.Discrete(4), num_environments=2),
    "MultiDiscrete observations": OnPolicyCase(algorithm="A2C", space=spaces.MultiDiscrete([3, 2])),
    "MultiBinary observations": OnPolicyCase(algorithm="PPO", space=spaces.MultiBinary(4)),
    "float64 observations": OnPolicyCase(algorithm="PPO", space=spaces.Box(-9, 9, (3,), np.float64)),
}


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_equals_the_librarys(name: str, tmp_path: Path) -> None:
    files = trained_on_policy(CASES[name], tmp_path)
    size, number = (32, 1) if CASES[name].algorithm == "A2C" else (8, 2)
    found = list(files.recomputed(batches=number, batch_size=size).batches())
    expected = files.library_gradients(batches=number, batch_size=size)
    assert len(found) == len(expected) == number
    for ours, theirs in zip(found, expected, strict=True):
        assert_equal(ours.gradients, theirs)
        assert all(len(each) == size for each in ours.observations.values())


def test_rows_are_those_of_the_batch(tmp_path: Path) -> None:
    files = trained_on_policy(DICTS, tmp_path)
    (first,) = files.recomputed(batches=1, batch_size=5, seed=3).batches()
    order = np.random.RandomState(3).permutation(32)[:5]
    assert set(first.observations) == set(MIXED)
    for key, rows in first.observations.items():
        np.testing.assert_array_equal(
            rows, files.buffer.observations[key].swapaxes(0, 1).reshape(32, *rows.shape[1:])[order]
        )
