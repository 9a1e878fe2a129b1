"""With save_rollout=True what a checkpoint's next update trains on is on disk, and nothing else changes."""

from __future__ import annotations

import copy
import itertools
import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from record.worlds import Market, snapshot
from sb3_contrib import TRPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, CheckpointCallback, EveryNTimesteps
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from gradscope.errors import UsageError
from gradscope.record import GradscopeCallback

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = ("actions", "values", "log_probs", "advantages", "returns", "episode_starts")
SMALL = {"n_steps": 16, "device": "cpu", "seed": 3}
MINI = SMALL | {"batch_size": 8, "n_epochs": 2}


class Keep(BaseCallback):
    """Copies of every full buffer, by the step it ended at, and what training said of it afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.buffers: dict[int, Any] = {}
        self.said: dict[int, dict[str, Any]] = {}

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self.said[self.num_timesteps] = dict(self.model.logger.name_to_value)

    def _on_rollout_end(self) -> None:
        self.buffers[self.num_timesteps] = copy.deepcopy(self.model.rollout_buffer)


def rollouts(folder: Path) -> dict[int, tuple[dict[str, Any], dict[str, torch.Tensor]]]:
    found = {}
    for path in folder.glob("rl_model_gradscope_rollout_*_steps.safetensors"):
        step = int(path.name.split("_")[-2])
        found[step] = snapshot(path)
    return dict(sorted(found.items()))


def worlds(number: int = 2, **options: Any) -> DummyVecEnv:
    return DummyVecEnv([lambda: Market(**options)] * number)


def learnt(model: Any, folder: Path, *, steps: int = 96, every: int = 10, **options: Any) -> Keep:
    keep = Keep()
    recorder = GradscopeCallback(every, str(folder), save_rollout=True, **options)
    model.learn(steps, callback=CallbackList([recorder, keep]), log_interval=None)
    keep.said[model.num_timesteps] = dict(model.logger.name_to_value)
    return keep


def test_each_checkpoint_gets_the_rollout_it_lies_in(tmp_path: Path) -> None:
    keep = learnt(PPO("MlpPolicy", worlds(), **MINI), tmp_path, every=6)
    found = rollouts(tmp_path)
    assert list(found) == [12, 24, 36, 48, 60, 72, 84, 96]
    for step, (document, tensors) in found.items():
        end = -(-step // 32) * 32
        buffer = keep.buffers[end]
        assert (document["step"], document["rollout_end"]) == (step, end)
        assert (document["schema"], document["algorithm"]) == ("gradscope/rollout/1", "PPO")
        assert set(tensors) == {"observations", *NUMBERS}
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(tensor.numpy(), getattr(buffer, name))
            assert tensor.numpy().dtype == getattr(buffer, name).dtype


def test_observations_are_the_normalised_ones_by_key(tmp_path: Path) -> None:
    env = VecNormalize(worlds(as_dict=True))
    keep = learnt(PPO("MultiInputPolicy", env, **MINI), tmp_path, steps=32)
    ((document, tensors),) = rollouts(tmp_path).values()
    for key in ("account", "market"):
        np.testing.assert_array_equal(tensors[f"observations.{key}"], keep.buffers[32].observations[key])
    assert document["settings"]["observation_space"]["entries"]["market"]["shape"] == [10]


def test_recurrent_states_are_stored(tmp_path: Path) -> None:
    model = RecurrentPPO("MlpLstmPolicy", worlds(), policy_kwargs={"lstm_hidden_size": 5}, **MINI)
    keep = learnt(model, tmp_path, steps=64, every=32)
    document, tensors = rollouts(tmp_path)[64]
    for name in ("hidden_states_pi", "cell_states_pi", "hidden_states_vf", "cell_states_vf"):
        assert tensors[f"lstm_states.{name}"].shape == (16, 1, 2, 5)
        np.testing.assert_array_equal(tensors[f"lstm_states.{name}"], getattr(keep.buffers[64], name))
        assert tensors[f"lstm_states.{name}"].any()
    settings = document["settings"]
    assert settings["lstm"]["hidden_size"] == 5
    assert (settings["shared_lstm"], settings["enable_critic_lstm"]) == (False, True)


def test_settings_are_those_of_the_first_update(tmp_path: Path) -> None:
    options = MINI | {"clip_range": lambda left: 0.3 * left, "clip_range_vf": lambda left: 2 * left}
    model = PPO("MlpPolicy", worlds(1), ent_coef=0.01, max_grad_norm=float("inf"), **options)
    keep = learnt(model, tmp_path, steps=64, every=10)
    for step, (document, _) in rollouts(tmp_path).items():
        settings, end = document["settings"], -(-step // 16) * 16
        assert settings["clip_range"] == keep.said[end]["train/clip_range"]
        assert settings["clip_range_vf"] == keep.said[end]["train/clip_range_vf"]
        assert (settings["ent_coef"], settings["max_grad_norm"]) == (0.01, "inf")
        assert (settings["batch_size"], settings["normalize_advantage"]) == (8, True)
        assert settings["action_space"] == {"kind": "Discrete", "sizes": [3], "start": 0}
        assert settings["activation_fn"] == "torch.nn.modules.activation.Tanh"


@pytest.mark.parametrize("name", ["PPO", "A2C", "RecurrentPPO"])
def test_training_stays_the_same_to_the_last_bit(name: str, tmp_path: Path) -> None:
    def trained(callback: Any) -> tuple[Any, Any]:
        maker = {"PPO": PPO, "A2C": A2C, "RecurrentPPO": RecurrentPPO}[name]
        options = SMALL if name == "A2C" else MINI
        model = maker("MlpLstmPolicy" if name == "RecurrentPPO" else "MlpPolicy", worlds(), **options)
        model.learn(100, callback=callback)
        state = np.random.get_state(legacy=False)["state"]  # noqa: NPY002 - the library's own
        return model.policy.state_dict(), (
            state["pos"],
            state["key"].tolist(),
            torch.get_rng_state().tolist(),
        )

    weights, chance = trained(CheckpointCallback(7, str(tmp_path / "plain")))
    others, other_chance = trained(GradscopeCallback(7, str(tmp_path / "ours"), save_rollout=True))
    assert rollouts(tmp_path / "ours")
    assert all(torch.equal(weights[key], others[key]) for key in weights)
    assert chance == other_chance


def test_a_rollout_that_never_ends_is_not_stored(tmp_path: Path) -> None:
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return self.num_timesteps < 44

    model = PPO("MlpPolicy", worlds(), **MINI)
    recorder = GradscopeCallback(10, str(tmp_path), save_rollout=True)
    model.learn(96, callback=CallbackList([recorder, Stop()]))
    assert (tmp_path / "rl_model_40_steps.zip").exists()
    assert list(rollouts(tmp_path)) == [20]
    model.learn(32, callback=recorder)
    assert sorted(rollouts(tmp_path)) == [16, 20]
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_without_being_asked_nothing_is_stored(tmp_path: Path) -> None:
    PPO("MlpPolicy", worlds(), **MINI).learn(32, callback=GradscopeCallback(4, str(tmp_path)))
    assert rollouts(tmp_path) == {}


def test_a_replay_buffer_needs_no_rollout(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="DQN learns from a replay buffer") as caught:
        DQN("MlpPolicy", Market()).learn(9, callback=GradscopeCallback(5, str(tmp_path), save_rollout=True))
    assert "\n" not in str(caught.value)


class OwnBuffer(RolloutBuffer):
    """It could draw otherwise."""


class OwnTraining(PPO):
    def train(self) -> None:
        super().train()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PPO("MlpPolicy", worlds(discrete=False), use_sde=True, **MINI), "use_sde=True"),
        (lambda: TRPO("MlpPolicy", worlds(), batch_size=16, **SMALL), "TRPO trains in a way of its own"),
        (lambda: OwnTraining("MlpPolicy", worlds(), **MINI), "OwnTraining trains in a way of its own"),
        (lambda: PPO("MlpPolicy", worlds(), rollout_buffer_class=OwnBuffer, **MINI), "OwnBuffer may draw"),
    ],
)
def test_what_cannot_be_recomputed_is_not_stored_and_said(make: Any, words: str, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=words) as said:
        make().learn(32, callback=GradscopeCallback(8, str(tmp_path), save_rollout=True))
    assert len([each for each in said if "save_rollout" in str(each.message)]) == 1
    assert rollouts(tmp_path) == {}
    assert (tmp_path / "rl_model_gradscope_16_steps.safetensors").exists()


def test_a_callback_that_is_told_of_no_rollout_says_so(tmp_path: Path) -> None:
    recorder = EveryNTimesteps(8, GradscopeCallback(1, str(tmp_path), save_rollout=True))
    with pytest.warns(UserWarning, match="nobody tells this callback when a rollout ends"):
        PPO("MlpPolicy", worlds(1), **MINI).learn(32, callback=recorder)
    assert rollouts(tmp_path) == {}


def test_every_file_is_plain_json_and_quiet(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learnt(A2C("MlpPolicy", worlds(), **SMALL), tmp_path, steps=32)
    ((document, _),) = rollouts(tmp_path).values()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert "clip_range" not in document["settings"]
    assert not list(itertools.chain(tmp_path.glob(".*")))
