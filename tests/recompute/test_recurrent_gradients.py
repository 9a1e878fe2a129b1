"""RecurrentPPO from a stored rollout: sequences, padding and LSTM states as the library draws them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from recompute.library import assert_equal
from recompute.rollout_library import OnPolicyCase, trained_on_policy

if TYPE_CHECKING:
    from pathlib import Path

SMALL: dict[str, Any] = {"net_arch": [7], "lstm_hidden_size": 6}
SHARED = {"shared_lstm": True, "enable_critic_lstm": False}
PLAIN = OnPolicyCase(algorithm="RecurrentPPO", policy="MlpLstmPolicy", policy_kwargs=SMALL)
DICT = spaces.Dict({"a": spaces.Box(-1, 1, (3,), np.float32), "b": spaces.Discrete(4)})
CASES: dict[str, OnPolicyCase] = {
    "own LSTM of the critic": PLAIN,
    "several environments, VecNormalize": replace(PLAIN, num_environments=4, normalize={}),
    "shared LSTM, Discrete": replace(
        PLAIN,
        action_space=spaces.Discrete(3),
        options={"ent_coef": 0.1},
        policy_kwargs=SMALL | SHARED,
    ),
    "no LSTM of the critic": replace(
        PLAIN, num_environments=2, policy_kwargs=SMALL | {"enable_critic_lstm": False}
    ),
    "two layers, clipped values": replace(
        PLAIN, options={"clip_range_vf": 1e-12}, policy_kwargs=SMALL | {"n_lstm_layers": 2}
    ),
    "no biases, plain advantages": replace(
        PLAIN,
        options={"normalize_advantage": False},
        policy_kwargs=SMALL | {"lstm_kwargs": {"bias": False}, "activation_fn": torch.nn.ReLU},
    ),
    "MultiDiscrete": replace(PLAIN, action_space=spaces.MultiDiscrete([2, 3]), options={"ent_coef": 0.1}),
    "Dict observations": replace(PLAIN, policy="MultiInputLstmPolicy", space=DICT, num_environments=2),
    "two extractors": replace(PLAIN, policy_kwargs=SMALL | {"share_features_extractor": False}),
}


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_equals_the_librarys(name: str, tmp_path: Path) -> None:
    files = trained_on_policy(CASES[name], tmp_path)
    for batch_size, number in ((8, 9), (12, 5), (32, 1)):
        found = list(files.recomputed(batches=number, batch_size=batch_size, seed=11).batches())
        expected = files.library_gradients(batches=number, batch_size=batch_size, seed=11)
        assert len(found) == len(expected) == number
        for ours, theirs in zip(found, expected, strict=True):
            assert_equal(ours.gradients, theirs)
            assert all(len(each) == batch_size for each in ours.observations.values())
