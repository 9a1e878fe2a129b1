"""Tiny markets and independent witnesses for the recorder's tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from safetensors import safe_open
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

torch.set_num_threads(1)

NUM_BARS, NUM_FEATURES = 2, 5
NAMES = ("ret", "vol", "flag", "position_long", "position_short")
POSITION = {"position": "position_*"}


class Market(gym.Env[np.ndarray, Any]):
    """Two bars of (return, volatility, flag, long, short); ``flag`` is 1 while a position is open, else 0."""

    metadata: ClassVar[dict[str, Any]] = {}

    def __init__(self, *, discrete: bool = True, opens_at: int = 60, as_dict: bool = False) -> None:
        flat = spaces.Box(-1e3, 1e3, (NUM_BARS * NUM_FEATURES,), np.float32)
        account = spaces.Box(-1e3, 1e3, (2,), np.float32)
        self.observation_space = spaces.Dict({"account": account, "market": flat}) if as_dict else flat
        self.action_space = spaces.Discrete(3) if discrete else spaces.Box(-1, 1, (1,), np.float32)
        self.as_dict, self.opens_at, self.age, self.time = as_dict, opens_at, 0, 0
        self.bars = np.zeros((NUM_BARS, NUM_FEATURES), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.time = 0
        self.bars[:] = 0
        return self._observation(), {}

    def step(self, _: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.age, self.time = self.age + 1, self.time + 1
        side = int(self.np_random.integers(3)) if self.age > self.opens_at else 0
        size = 5 + 3 * self.np_random.random()
        bar = [*self.np_random.normal(size=2), float(side > 0), size * (side == 1), size * (side == 2)]
        self.bars = np.vstack([self.bars[1:], np.asarray(bar, np.float32)])
        return self._observation(), float(bar[0]), False, self.time >= 30, {}

    def _observation(self) -> Any:
        flat = self.bars.ravel().copy()
        return {"account": self.bars[-1, 3:].copy(), "market": flat} if self.as_dict else flat


class Attention(BaseFeaturesExtractor):
    """Projection of each bar, attention over bars: its key bias cannot get gradient."""

    def __init__(self, space: spaces.Box, width: int = 8) -> None:
        super().__init__(space, width)
        self.temporal_projection = torch.nn.Linear(NUM_FEATURES, width)
        self.attention = torch.nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        bars = torch.relu(self.temporal_projection(observations.view(-1, NUM_BARS, NUM_FEATURES)))
        mixed, _ = self.attention(bars, bars, bars, need_weights=False)
        return mixed.mean(1)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one optimizer held in ``p.grad`` as its own step() ran."""

    step: int
    gradients: tuple[torch.Tensor | None, ...]
    weights: tuple[torch.Tensor, ...]


def witness(model: Any, optimizer: torch.optim.Optimizer) -> list[Seen]:
    """Every later step of one optimizer, seen from inside step() and without any hook."""
    seen: list[Seen] = []
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    original = type(optimizer)

    def step(self: Any, closure: Any = None) -> Any:
        seen.append(
            Seen(
                step=model.num_timesteps,
                gradients=tuple(None if p.grad is None else p.grad.clone() for p in parameters),
                weights=tuple(p.detach().clone() for p in parameters),
            )
        )
        return original.step(self, closure)

    optimizer.__class__ = type("Witness", (original,), {"step": step})
    return seen


def snapshot(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Metadata and tensors, read with safetensors alone."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["gradscope"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no mapping


def timeline(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Headers and rows."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if "schema" in line], [line for line in lines if "schema" not in line]


def optimizers(model: Any) -> dict[str, torch.optim.Optimizer]:
    """Written down by hand from SB3's train() methods."""
    if hasattr(model.policy, "critic"):
        both = {"critic": model.critic.optimizer, "actor": model.actor.optimizer}
        entropy = getattr(model, "ent_coef_optimizer", None)
        return both | ({} if entropy is None else {"ent_coef": entropy})
    return {"policy": model.policy.optimizer}


def hooks_left(model: Any) -> int:
    """Hooks anywhere the recorder could have put one."""
    everything: Iterable[torch.optim.Optimizer] = optimizers(model).values()
    from torch.nn.modules import module as torch_module  # noqa: PLC0415 - private state, here only

    count = len(torch_module._global_forward_pre_hooks)
    count += sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.policy.modules())
    for optimizer in everything:
        count += len(optimizer._optimizer_step_pre_hooks)
        for group in optimizer.param_groups:
            count += sum(len(p._post_accumulate_grad_hooks or ()) for p in group["params"])
    return count
