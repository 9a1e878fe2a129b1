"""Tiny real runs of known truth: who makes the zeros is decided by how they are built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, CheckpointCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from gradscope.record import GradscopeCallback

if TYPE_CHECKING:
    from pathlib import Path

NUM_COLUMNS = 8
POSITION = 7
OPENS = 80
"""Step from which positions are open: of the first checkpoint; at the second they fill the buffer."""


class Market(gym.Env[Any, Any]):
    """Noise, and a position that opens once and stays within 80 to 120 % of its size."""

    metadata: ClassVar[dict[str, Any]] = {}
    observation_space = spaces.Box(-np.inf, np.inf, (NUM_COLUMNS,), np.float32)
    action_space = spaces.Discrete(3)

    def __init__(self, size: float) -> None:
        self.size, self.time = size, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        return self._seen(), float(self.np_random.normal() + action), self.time % 20 == 0, False, {}

    def _seen(self) -> Any:
        seen = self.np_random.normal(size=NUM_COLUMNS).astype(np.float32)
        seen[POSITION] = self.size * self.np_random.uniform(0.8, 1.2) if self.time >= OPENS else 0
        return seen


class _KillsUnits(BaseCallback):
    """Half of the first layer's units get a bias that no market can lift, when positions open."""

    def _on_step(self) -> bool:
        if self.num_timesteps == OPENS + 1:
            with torch.no_grad():
                self.model.policy.q_net.q_net[0].bias[::2] -= 100
        return True


def run(
    folder: Path, *, size: float, kills_units: bool = False, seed: int, is_normalised: bool = False
) -> Path:
    """Checkpoints and buffers at steps 80 and 160, of weights as they were initialised."""
    torch.set_num_threads(1)
    world = DummyVecEnv([lambda: Market(size)])
    model = DQN(
        "MlpPolicy",
        VecNormalize(world) if is_normalised else world,
        seed=seed,
        device="cpu",
        # The library saves before it stores the newest row.
        buffer_size=OPENS - 1,
        learning_starts=10_000,
        batch_size=32,
        policy_kwargs={"net_arch": [32, 32]},
    )
    saves = CheckpointCallback(OPENS, str(folder), save_replay_buffer=True, save_vecnormalize=is_normalised)
    model.learn(2 * OPENS, callback=CallbackList([*([_KillsUnits()] if kills_units else []), saves]))
    return folder


def rollout_run(folder: Path, *, size: float, seed: int, is_recurrent: bool = False) -> Path:
    """A checkpoint of PPO at step 120 and its rollout, steps 81 to 160: every position is open."""
    torch.set_num_threads(1)
    network: dict[str, Any] = {"net_arch": [32, 32], "activation_fn": torch.nn.ReLU}
    options: dict[str, Any] = {"seed": seed, "n_steps": OPENS, "batch_size": 16, "policy_kwargs": network}
    model: Any
    if is_recurrent:
        network["lstm_hidden_size"] = 16
        model = RecurrentPPO("MlpLstmPolicy", Market(size), **options)
    else:
        model = PPO("MlpPolicy", Market(size), **options)
    saves = CheckpointCallback(120, str(folder))
    records = GradscopeCallback(120, str(folder), save_rollout=True)
    model.learn(2 * OPENS, callback=CallbackList([saves, records]))
    return folder
