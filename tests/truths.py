"""Tiny real trainings whose fault is planted and known, each with a healthy twin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import CheckpointCallback

from gradscope.record import GradscopeCallback

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

torch.set_num_threads(1)

NUM_MARKET, NUM_POSITION = 7, 3
POSITION = f"{NUM_MARKET}:{NUM_MARKET + NUM_POSITION}"
SAVE_EVERY = 200


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is planted."""

    name: str
    algorithm: str = "DQN"
    size: float = 1.0
    """Of the position columns once they are active, in market standard deviations."""
    constant: float | None = None
    """Value that four market columns never leave."""
    options: dict[str, Any] = field(default_factory=dict)
    plant: Callable[[Any], None] | None = None
    """Done to the model in the middle of training."""
    is_recorded: bool = False
    """Whether gradients are recorded; else they are recomputed."""
    supported: frozenset[str] = frozenset()
    """Hypotheses that must be supported."""
    also: frozenset[str] = frozenset()
    """Hypotheses that may be, as a symptom."""


class World(gym.Env[Any, Any]):
    """Noise for a market; positions rest until the middle of the run."""

    metadata: ClassVar[dict[str, Any]] = {}

    def __init__(self, truth: Truth, seed: int) -> None:
        width = NUM_MARKET + NUM_POSITION
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (width,), np.float32)
        discrete, continuous = gym.spaces.Discrete(3), gym.spaces.Box(-1, 1, (1,), np.float32)
        self.action_space = discrete if truth.algorithm == "DQN" else continuous
        self.truth, self.draw, self.time = truth, np.random.default_rng(seed), 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        seen = self._seen()
        return seen, float(seen[0] - np.sum(action)), False, self.time % 50 == 0, {}

    def _seen(self) -> Any:
        market, position = self.draw.normal(size=NUM_MARKET), self.draw.normal(size=NUM_POSITION)
        if self.truth.constant is not None:
            market[3:] = self.truth.constant
        is_open = self.time >= SAVE_EVERY
        if self.truth.size > 1:
            # Money and hours are large and of one sign.
            position = self.truth.size * (1 + 0.1 * position)
        return np.concatenate([market, position * is_open]).astype(np.float32)


class _Plant(CheckpointCallback):
    """Does what is planted, once, just before the last checkpoint."""

    def __init__(self, folder: Path, plant: Callable[[Any], None] | None) -> None:
        super().__init__(SAVE_EVERY, str(folder), save_replay_buffer=True)
        self.plant = plant

    def _on_step(self) -> bool:
        if self.plant is not None and self.n_calls == 2 * SAVE_EVERY:
            self.plant(self.model)
        return super()._on_step()


def trained(truth: Truth, folder: Path, seed: int) -> Path:
    """Checkpoints and buffers at two steps: before positions open and after."""
    maker = getattr(stable_baselines3, truth.algorithm)
    options = {"buffer_size": SAVE_EVERY, "learning_starts": 20, "batch_size": 64, "train_freq": 8}
    options |= {"policy_kwargs": {"net_arch": [64, 64]}, "device": "cpu", "seed": seed} | truth.options
    model = maker("MlpPolicy", World(truth, seed), **options)
    if truth.is_recorded:
        callback: Any = GradscopeCallback(
            SAVE_EVERY, str(folder), save_replay_buffer=True, slices={"position": POSITION}, timeline_every=1
        )
    else:
        callback = _Plant(folder, truth.plant)
    # A few steps more: the recorder writes gradients with the first update after a checkpoint.
    model.learn(2 * SAVE_EVERY + 20, callback=callback)
    return folder


def scaled_output(model: Any) -> None:
    """The actor's last weights grow until its tanh is flat everywhere."""
    with torch.no_grad():
        model.actor.mu[-2].weight.mul_(1e4)
        model.actor.mu[-2].bias.add_(1e3)


def negative_biases(model: Any) -> None:
    """Three quarters of the first layer's units are pushed below zero for good."""
    with torch.no_grad():
        model.q_net.q_net[0].bias[:48] = -1e3


TRUTHS = (
    Truth(name="healthy DQN"),
    Truth(name="healthy TD3", algorithm="TD3"),
    Truth(
        name="positions of size 300",
        size=300.0,
        supported=frozenset({"scale-mismatch", "slice-is-cause"}),
        also=frozenset({"dead-units"}),
    ),
    Truth(
        name="dead units, positions bystanders", plant=negative_biases, supported=frozenset({"dead-units"})
    ),
    Truth(
        name="saturated actor, positions bystanders",
        algorithm="TD3",
        plant=scaled_output,
        supported=frozenset({"saturation"}),
    ),
    Truth(name="inputs always 0", constant=0.0, supported=frozenset({"flat-input"})),
    Truth(name="inputs always 0.5", constant=0.5, supported=frozenset({"flat-input"})),
    Truth(
        name="clipped to 1e-8",
        is_recorded=True,
        options={"max_grad_norm": 1e-8},
        supported=frozenset({"explosion-clipping"}),
    ),
    Truth(name="clipped to 10", is_recorded=True, options={"max_grad_norm": 10.0}),
)
