"""Extractors, spaces and observations that do not fit together are refused with their reason."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gymnasium import spaces
from makers import sb3_ring
from recompute.library import Case, Files, refusal, trained

from gradscope.read.sb3_training import sb3_training
from gradscope.recompute import Recomputed, Refusal, recompute_gradients

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = spaces.Box(0, 255, (3, 36, 36), np.uint8)


@pytest.mark.parametrize("key", ["observations", "next_observations"])
def test_numbers_beyond_the_space(tmp_path: Path, key: str) -> None:
    checkpoint = trained(Case(algorithm="SAC", steps=40, space=spaces.MultiDiscrete([4, 2])), tmp_path)[0]
    ring = sb3_ring(checkpoint.ring)
    assert isinstance(checkpoint.result(), Recomputed)
    for number in (2, -1):
        changed = (getattr(ring, key) or {})[""].copy()
        changed[3, 0, 1] = number
        assert "not among the (4, 2) values" in refusal(
            checkpoint, ring=replace(ring, **{key: {"": changed}})
        )
        changed[3, 0, 1], changed[39:] = 0, number  # rows never written
        assert "not among" not in str(replaced(checkpoint, replace(ring, **{key: {"": changed}})))


def replaced(checkpoint: Files, ring: Any) -> Any:
    training = sb3_training(checkpoint.zip)
    return recompute_gradients(training, ring, None, batches=1, batch_size=8, seed=0)


def test_extractors_that_do_not_fit(tmp_path: Path) -> None:
    case = Case(algorithm="DQN", policy="CnnPolicy", space=IMAGE, policy_kwargs={}, steps=40)
    image = trained(case, tmp_path)[0]
    training = sb3_training(image.zip)
    name = "q_net.features_extractor.cnn.2.weight"
    small = {**training.weights, name: training.weights[name][:, :-1]}
    assert f"{name} is (64, 31, 4, 4), not (64, 32, 4, 4)" in refusal(image, weights=small)
    linear = "q_net.features_extractor.linear.0.bias"
    without = {key: each for key, each in training.weights.items() if key != linear}
    assert "as NatureCNN needs" in refusal(image, weights=without)
    assert "too small" in refusal(image, **of_space(image, shape=(3, 20, 20)))
    assert "does not take" in refusal(image, **of_space(image, is_byte_range=False))
    settings = {"features_extractor_kwargs": {"padding": 1}}
    assert "padding" in refusal(image, policy_settings=settings)
    assert "not recomputed" in refusal(image, space=None)
    assert "of kind Box" in refusal(image, policy_class="stable_baselines3.dqn.policies.MultiInputPolicy")


def of_space(checkpoint: Files, **changes: Any) -> dict[str, Any]:
    """A checkpoint's space with changes, and a ring that fits it."""
    space, ring = sb3_training(checkpoint.zip).space, sb3_ring(checkpoint.ring)
    assert space is not None
    changed = replace(space, **changes)
    arrays = {"": np.zeros((*ring.observations[""].shape[:2], *changed.shape), changed.dtype)}
    return {"space": changed, "ring": replace(ring, observations=arrays, next_observations=arrays)}


def test_a_shared_extractor_that_differs(tmp_path: Path) -> None:
    settings = {"net_arch": [8], "share_features_extractor": True}
    case = Case(algorithm="TD3", policy="CnnPolicy", space=IMAGE, policy_kwargs=settings, steps=40)
    checkpoint = trained(case, tmp_path)[0]
    name = "critic_target.features_extractor.cnn.0.bias"
    weights = {**sb3_training(checkpoint.zip).weights}
    weights[name] = weights[name] + 1
    assert f"{name} are one tensor" in refusal(checkpoint, weights=weights)
    assert isinstance(checkpoint.result(), Recomputed)


DICT = spaces.Dict({"a": spaces.Box(-9, 9, (3,), np.float32), "gear": spaces.Discrete(3)})


@pytest.mark.parametrize("options", [{"norm_obs_keys": ["a"]}, {"norm_obs": False}])
def test_a_normalised_dict_without_its_statistics(tmp_path: Path, options: dict[str, Any]) -> None:
    settings: dict[str, Any] = {
        "policy": "MultiInputPolicy",
        "space": DICT,
        "num_environments": 2,
        "steps": 40,
    }
    checkpoint = trained(Case(algorithm="SAC", normalize=options, **settings), tmp_path)[0]
    assert isinstance(checkpoint.result(), Recomputed)
    found = replace(checkpoint, normalizer=None).result()
    assert isinstance(found, Refusal)
    assert "VecNormalize" in found.reason


def test_statistics_of_other_observations(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"algorithm": "SAC", "steps": 40, "normalize": {}}
    plain = trained(Case(**settings), tmp_path / "plain")[0]
    one = {"policy": "MultiInputPolicy", "space": DICT, **settings, "normalize": {"norm_obs_keys": ["a"]}}
    several = trained(Case(**one), tmp_path / "dict")[0]
    for checkpoint, other in ((plain, several), (several, plain)):
        found = replace(checkpoint, normalizer=other.normalizer).result()
        assert isinstance(found, Refusal)
        assert found.reason == "the VecNormalize file's statistics do not fit the observations"


def test_observations_that_never_change_tell_nothing(tmp_path: Path) -> None:
    space = spaces.Box(1, 2, (3,), np.uint8)  # drawn below as constants
    checkpoint = trained(Case(algorithm="SAC", space=space, steps=40), tmp_path)[0]
    ring, training = sb3_ring(checkpoint.ring), sb3_training(checkpoint.zip)
    constant = {"": np.ones_like(ring.observations[""])}
    found = recompute_gradients(
        replace(training, last_original_observations={"": np.ones((1, 3), np.uint8)}),
        replace(ring, observations=constant, next_observations=constant),
        None,
        batches=1,
        batch_size=8,
        seed=0,
    )
    assert isinstance(found, Recomputed)
    assert "nothing tells" in found.reasons["replay"]
