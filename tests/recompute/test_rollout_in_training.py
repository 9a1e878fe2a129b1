"""The gradient of the real training right after a checkpoint is recomputed from files alone, bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from gymnasium import spaces
from recompute.library import assert_equal
from recompute.rollout_library import OnPolicyCase
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.utils import set_random_seed

from gradscope.read import open_file
from gradscope.read.sb3_training import sb3_training
from gradscope.recompute import RecomputedRollout, recompute_rollout
from gradscope.record import GradscopeCallback
from gradscope.records import Rollout, Snapshot

if TYPE_CHECKING:
    from pathlib import Path

LSTM = {"net_arch": [7], "lstm_hidden_size": 6}
CASES = {
    "PPO": OnPolicyCase(algorithm="PPO", num_environments=2, normalize={}),
    "PPO Discrete": OnPolicyCase(
        algorithm="PPO", action_space=spaces.Discrete(3), options={"clip_range": lambda left: left}
    ),
    "A2C": OnPolicyCase(algorithm="A2C", num_environments=2),
    "RecurrentPPO": OnPolicyCase(
        algorithm="RecurrentPPO", policy="MlpLstmPolicy", num_environments=2, policy_kwargs=LSTM
    ),
}


class Seed(BaseCallback):
    """Seeds between a rollout and its training: otherwise nobody knows what was drawn."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        set_random_seed(23)


@pytest.mark.parametrize("name", CASES)
def test_each_checkpoint_has_the_gradient_that_training_saw(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    sizes = {} if case.algorithm == "A2C" else {"batch_size": 8, "n_epochs": 2}
    options = {"n_steps": case.num_steps, **sizes, **case.options}
    model = case.maker(
        case.policy, case.environment(), device="cpu", policy_kwargs=dict(case.policy_kwargs), **options
    )
    recorder = GradscopeCallback(24 // case.num_environments, str(tmp_path), save_rollout=True)
    # Resumed once: steps go on, schedules begin anew.
    model.learn(64, callback=CallbackList([recorder, Seed()]))
    model.learn(64, callback=CallbackList([recorder, Seed()]), reset_num_timesteps=False)
    for step in (24, 48, 72, 96, 120):
        stored = open_file(tmp_path / f"rl_model_gradscope_{step}_steps.safetensors")
        rollout = open_file(tmp_path / f"rl_model_gradscope_rollout_{step}_steps.safetensors")
        assert isinstance(stored, Snapshot)
        assert isinstance(rollout, Rollout)
        training = sb3_training(tmp_path / f"rl_model_{step}_steps.zip")
        found = recompute_rollout(training, rollout, batches=1, batch_size=None, seed=23)
        assert isinstance(found, RecomputedRollout), found
        (ours,) = found.batches()
        assert_equal(ours.gradients, {key: layer.gradient for key, layer in stored.layers.items()})
        assert stored.clipping.clip_coefficient == pytest.approx(ours.clipping.clip_coefficient, rel=1e-4)
