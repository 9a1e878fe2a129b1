"""Gradients from a stored rollout equal those inside the library's own train(), to the last bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from gymnasium import spaces
from recompute.library import assert_equal
from recompute.rollout_library import OnPolicyCase, trained_on_policy

from gradscope.read import open_file
from gradscope.records import Snapshot

if TYPE_CHECKING:
    from pathlib import Path

CASES: dict[str, OnPolicyCase] = {
    "PPO": OnPolicyCase(algorithm="PPO"),
    "PPO discrete": OnPolicyCase(
        algorithm="PPO", action_space=spaces.Discrete(3), options={"ent_coef": 0.01}
    ),
    "PPO multi-discrete": OnPolicyCase(
        algorithm="PPO", action_space=spaces.MultiDiscrete([3, 2, 4]), options={"ent_coef": 0.1}
    ),
    "PPO multi-binary": OnPolicyCase(
        algorithm="PPO", action_space=spaces.MultiBinary(3), options={"ent_coef": 0.1}
    ),
    "PPO environments, VecNormalize": OnPolicyCase(
        algorithm="PPO", num_environments=4, normalize={}, options={"ent_coef": 0.02, "vf_coef": 0.9}
    ),
    "PPO clipped values by a schedule": OnPolicyCase(
        algorithm="PPO",
        num_environments=2,
        options={"clip_range": lambda left: 0.2 * left, "clip_range_vf": lambda left: 1e-12 * left},
    ),
    "PPO plain advantages, no clipping of the norm": OnPolicyCase(
        algorithm="PPO", options={"normalize_advantage": False, "max_grad_norm": float("inf")}
    ),
    "PPO ReLU, two architectures": OnPolicyCase(
        algorithm="PPO",
        policy_kwargs={
            "net_arch": {"pi": [12], "vf": [9, 7]},
            "activation_fn": torch.nn.ReLU,
            "ortho_init": False,
            "log_std_init": -1.0,
        },
    ),
    "PPO linear, Adam of another eps": OnPolicyCase(
        algorithm="PPO", policy_kwargs={"net_arch": [], "optimizer_kwargs": {"eps": 1e-3}}
    ),
    "A2C": OnPolicyCase(algorithm="A2C", num_environments=2),
    "A2C normalised advantages, Adam": OnPolicyCase(
        algorithm="A2C",
        action_space=spaces.Discrete(4),
        normalize={},
        options={"normalize_advantage": True, "use_rms_prop": False, "ent_coef": 0.05},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_equals_the_librarys(name: str, tmp_path: Path) -> None:
    files = trained_on_policy(CASES[name], tmp_path)
    for batch_size, number in ((8, 9), (12, 5), (32, 1)):
        if CASES[name].algorithm == "A2C" and batch_size < 32:
            continue
        found = list(files.recomputed(batches=number, batch_size=batch_size).batches())
        expected = files.library_gradients(batches=number, batch_size=batch_size)
        assert len(found) == len(expected) == number
        for ours, theirs in zip(found, expected, strict=True):
            assert_equal(ours.gradients, theirs)
            assert list(ours.gradients) == list(theirs)


@pytest.mark.parametrize("name", [name for name in CASES if "A2C" in name])
def test_the_gradient_of_the_training_itself_is_found_again(name: str, tmp_path: Path) -> None:
    files = trained_on_policy(CASES[name], tmp_path)
    stored = open_file(tmp_path / "rl_model_gradscope_40_steps.safetensors")
    assert isinstance(stored, Snapshot)
    (ours,) = files.recomputed(batch_size=None, seed=77).batches()
    assert set(ours.gradients) == set(stored.layers)
    for layer, gradient in ours.gradients.items():
        seen = stored.layers[layer].gradient
        assert seen is not None
        # A2C's one batch holds every row, in an order that only its sums' last bits depend on.
        np.testing.assert_allclose(gradient, seen, rtol=1e-3, atol=1e-6)
        assert np.array_equal(gradient == 0, seen == 0)
    assert ours.clipping.norm_before_clip == pytest.approx(stored.clipping.norm_before_clip, rel=1e-4)
