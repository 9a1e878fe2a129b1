"""Recorded runs whose zeros and positions rise together: because of each other, or with the time alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from gradscope.record import GradscopeCallback

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NUM_COLUMNS: Final = 10
POSITION: Final = "7:10"
NUM_STEPS: Final = 440
STARTS: Final = 40
"""Step of the first update."""
UNITS: Final = 64
LARGE: Final = 300.0
"""Positions that kill, for as long as they fill the batch, every unit that they push down."""


class Market(gym.Env[Any, Any]):
    """Noise, and positions that are open with a probability of the time's."""

    metadata: ClassVar[dict[str, Any]] = {}
    observation_space = gym.spaces.Box(-np.inf, np.inf, (NUM_COLUMNS,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def __init__(self, probability: Callable[[int], float], size: float, seed: int) -> None:
        self.probability, self.size, self.time = probability, size, 0
        self.draw = np.random.default_rng(seed)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return self._next(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        seen = self._next()
        return seen, float(seen[0] - np.sum(action)), False, self.time % 50 == 0, {}

    def _next(self) -> Any:
        seen = self.draw.normal(size=NUM_COLUMNS)
        is_open = self.draw.uniform() < self.probability(self.time)
        if self.size > 1:
            # Money and hours are large and of one sign.
            seen[7:] = self.size * (1 + 0.1 * seen[7:])
        seen[7:] *= is_open
        return seen.astype(np.float32)


class _Killing(BaseCallback):
    """One unit of the first layer after the other gets a bias that nothing lifts."""

    def __init__(self, wanted: Callable[[int], float]) -> None:
        super().__init__()
        self.wanted = wanted

    def _on_step(self) -> bool:
        dead = int(UNITS * self.wanted(self.n_calls))
        with torch.no_grad():
            self.model.policy.q_net.q_net[0].bias[:dead] = -1e3
        return True


def run(
    folder: Path,
    seed: int,
    *,
    probability: Callable[[int], float],
    size: float = 1.0,
    killed: Callable[[int], float] | None = None,
    buffer_size: int = 64,
) -> Path:
    """A recorded run with one row of the timeline for each step."""
    torch.set_num_threads(1)
    model = DQN(
        "MlpPolicy",
        Market(probability, size, seed),
        seed=seed,
        device="cpu",
        buffer_size=buffer_size,
        learning_starts=STARTS,
        batch_size=32,
        train_freq=1,
        learning_rate=1e-4,
        # Else actions that are tried less and less often add zeros of their own to the output head.
        exploration_initial_eps=0.3,
        exploration_final_eps=0.3,
        policy_kwargs={"net_arch": [UNITS, UNITS]},
    )
    records = GradscopeCallback(
        NUM_STEPS // 2,
        str(folder),
        save_replay_buffer=True,
        slices={"position": POSITION},
        timeline_every=1,
    )
    model.learn(NUM_STEPS + 1, callback=CallbackList([*([_Killing(killed)] if killed else []), records]))
    return folder


def line(time: int) -> float:
    """From nothing to three quarters."""
    return 0.75 * time / NUM_STEPS


def curve(time: int) -> float:
    """The same, slowly at first."""
    return 0.75 * (time / NUM_STEPS) ** 2


def episodes(time: int) -> float:
    """Closed, then open, each for a while, no two alike; open at the last checkpoint."""
    return float(np.sin(time / 17) + np.sin(time / 29) > 0)
