"""Tiny real trainings of Stable-Baselines3 in a world of noise, whose fault is planted and known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, CheckpointCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from gradscope.record import GradscopeCallback

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

torch.set_num_threads(1)

NUM_MARKET, NUM_POSITION = 7, 3
MARKET, POSITION = f"0:{NUM_MARKET}", f"{NUM_MARKET}:{NUM_MARKET + NUM_POSITION}"
SAVE_EVERY = 200
LAST = 2 * SAVE_EVERY
"""Step of the last checkpoint."""
FEW_MORE = 20
"""Steps: the recorder writes gradients with the first update after a checkpoint."""
OFF_POLICY: dict[str, Any] = {
    "buffer_size": SAVE_EVERY,
    "learning_starts": 20,
    "batch_size": 64,
    "train_freq": 8,
}
ON_POLICY: dict[str, Any] = {"n_steps": 50, "batch_size": 50, "n_epochs": 2}


def summed_action(seen: Any, action: Any, _time: int) -> float:
    """Reward that any policy learns."""
    return float(seen[0] - np.sum(action))


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained, and what is wrong with it; called with a folder and a seed it leaves a run there."""

    algorithm: str = "DQN"
    num_actions: int = 3
    size: float = 1.0
    """Of the position columns once they are active, in market standard deviations."""
    constant: float | None = None
    """Value that four market columns do not leave."""
    constant_from: int = 0
    """Step from which they do not."""
    reward: Callable[[Any, Any, int], float] = summed_action
    """Of what was seen, the action and the time."""
    options: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)
    at_first: Callable[[Any], None] | None = None
    """Done to the model before training."""
    plant: Callable[[Any], None] | None = None
    """Done to the model just before the last checkpoint."""
    is_recorded: bool = False
    """Whether gradients are recorded; else they are recomputed."""
    is_normalised: bool = False
    saves_rollout: bool = False

    def __call__(self, folder: Path, seed: int) -> Path:
        """Checkpoints and buffers at two steps: before positions open and after."""
        world = DummyVecEnv([lambda: World(self, seed)])
        off_policy = self.algorithm not in {"PPO", "A2C"}
        model = getattr(stable_baselines3, self.algorithm)(
            "MlpPolicy",
            VecNormalize(world, norm_reward=False) if self.is_normalised else world,
            policy_kwargs={"net_arch": [64, 64]} | self.policy,
            device="cpu",
            seed=seed,
            **(OFF_POLICY if off_policy else ON_POLICY) | self.options,
        )
        if self.at_first is not None:
            self.at_first(model)
        model.learn(LAST + FEW_MORE, callback=self._callback(folder, off_policy=off_policy))
        return folder

    def _callback(self, folder: Path, *, off_policy: bool) -> Any:
        saves = {"save_replay_buffer": off_policy, "save_vecnormalize": self.is_normalised}
        if self.is_recorded:
            keeps: Any = GradscopeCallback(
                SAVE_EVERY,
                str(folder),
                **saves,
                slices={"position": POSITION},
                timeline_every=1,
                save_rollout=self.saves_rollout,
            )
        else:
            keeps = CheckpointCallback(SAVE_EVERY, str(folder), **saves)
        return CallbackList([_Plant(self.plant), keeps])


class World(gym.Env[Any, Any]):
    """Noise for a market; positions rest until the middle of the run."""

    metadata: ClassVar[dict[str, Any]] = {}

    def __init__(self, training: Training, seed: int) -> None:
        width = NUM_MARKET + NUM_POSITION
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (width,), np.float32)
        discrete = gym.spaces.Discrete(training.num_actions)
        continuous = gym.spaces.Box(-1, 1, (1,), np.float32)
        self.action_space = continuous if training.algorithm in {"TD3", "SAC"} else discrete
        self.training, self.draw, self.time = training, np.random.default_rng(seed), 0
        self.seen: Any = None

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.seen = self._next()
        return self.seen, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        before, self.seen = self.seen, self._next()
        reward = self.training.reward(before, action, self.time)
        return self.seen, reward, False, self.time % 50 == 0, {}

    def _next(self) -> Any:
        training = self.training
        market, position = self.draw.normal(size=NUM_MARKET), self.draw.normal(size=NUM_POSITION)
        if training.constant_from:
            market[3:] += 1
        if training.constant is not None and self.time >= training.constant_from:
            market[3:] = training.constant
        if training.size > 1:
            # Money and hours are large and of one sign.
            position = training.size * (1 + 0.1 * position)
        return np.concatenate([market, position * (self.time >= SAVE_EVERY)]).astype(np.float32)


class _Plant(BaseCallback):
    """Does what is planted, once."""

    def __init__(self, plant: Callable[[Any], None] | None) -> None:
        super().__init__()
        self.plant = plant

    def _on_step(self) -> bool:
        if self.plant is not None and self.n_calls == LAST:
            self.plant(self.model)
        return True
