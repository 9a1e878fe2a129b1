"""PPO and A2C trained on from a stored rollout: the weights that the library's own train() leaves."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from recompute.rollout_library import OnPolicyCase, OnPolicyFiles, trained_on_policy
from recompute.user_agents import importable
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import set_random_seed

from gradscope.read.sb3_blobs import sb3_blobs
from gradscope.read.sb3_training import sb3_training
from gradscope.recompute.batches import draws
from gradscope.recompute.rollout_gradients import recompute_rollout
from gradscope.recompute.rollout_trusted import TrustedRollout
from gradscope.recompute.trusted.user_code import UserCode
from gradscope.trial.arms import Arm
from gradscope.trial.rollouts import RolloutFeed

if TYPE_CHECKING:
    from pathlib import Path

CASES = {
    "PPO": OnPolicyCase(algorithm="PPO"),
    "PPO discrete": OnPolicyCase(
        algorithm="PPO", action_space=spaces.Discrete(3), options={"ent_coef": 0.01}
    ),
    "PPO environments, VecNormalize": OnPolicyCase(
        algorithm="PPO", num_environments=4, normalize={}, options={"vf_coef": 0.9, "clip_range_vf": 0.1}
    ),
    "PPO, batches of 12": OnPolicyCase(algorithm="PPO", options={"batch_size": 12}),
    "A2C": OnPolicyCase(algorithm="A2C", num_environments=2),
    "A2C Adam": OnPolicyCase(algorithm="A2C", options={"use_rms_prop": False}),
}


def trained_on(found: Any, num_epochs: int) -> Any:
    """One update of the library's: every epoch over the checkpoint's own rollout."""
    feed = RolloutFeed(drawings=[found.drawing], steps=[40], num_epochs=num_epochs)
    arm, drawn = Arm(trainee=found.trainee()), draws(5)
    with arm.trainee.session():
        for portion in feed.portions(arm, drawn, feed.num_updates, found.batch_size):
            arm.trainee.update(portion.batch, drawn)
    return arm.trainee


def library(files: OnPolicyFiles) -> Any:
    model = files.case.maker.load(files.zip, device="cpu")
    model.set_logger(Logger(None, []))
    model.rollout_buffer = copy.deepcopy(files.buffer)
    model._current_progress_remaining = files.progress
    set_random_seed(5)
    model.train()
    return model


def assert_same(trainee: Any, model: Any) -> None:
    weights = {name: each.detach().numpy() for name, each in model.policy.state_dict().items()}
    assert trainee.parameters.keys() <= weights.keys()
    for name, weight in trainee.parameters.items():
        assert np.array_equal(weight.detach().numpy(), weights[name]), name


@pytest.mark.parametrize("name", CASES)
def test_weights_after_an_update_are_the_librarys(name: str, tmp_path: Path) -> None:
    files = trained_on_policy(CASES[name], tmp_path)
    is_whole = CASES[name].algorithm == "A2C"
    found = files.recomputed(batch_size=None)
    trainee = trained_on(found, 1 if is_whole else 2)
    # 32 rows in batches of 8, or of 12: then each of two epochs ends with one of 8.
    assert trainee.num_done == (1 if is_whole else 6 if "12" in name else 8)
    if is_whole:
        # The order of rows in A2C's one batch is the library's; its sums are the same but for last bits.
        weights = library(files).policy.state_dict()
        for layer, weight in trainee.parameters.items():
            torch.testing.assert_close(weight.detach(), weights[layer], rtol=1e-4, atol=1e-6)
    else:
        assert_same(trainee, library(files))


def test_the_users_own_extractor_trains_on_too(tmp_path: Path) -> None:
    with importable(tmp_path) as users:
        kwargs = {"net_arch": [8], "features_extractor_class": users.Noisy}
        case = OnPolicyCase(algorithm="PPO", policy_kwargs=kwargs)
        files = trained_on_policy(case, tmp_path)
        model = library(files)
    code = UserCode(blobs=sb3_blobs(files.zip), folder=tmp_path)
    training = sb3_training(files.zip)
    found = recompute_rollout(training, files.opened(), batches=1, batch_size=8, seed=5, user_code=code)
    assert isinstance(found, TrustedRollout), found
    assert_same(trained_on(found, 2), model)
