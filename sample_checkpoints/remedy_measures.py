"""What try_remedies.py measures of a training: zeros, norms, pooling, losses, and what the agent earns."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from make_samples import NUM_STEPS
from remedy_table import FIRST_LAYERS
from stable_baselines3.common.callbacks import BaseCallback
from trading_agent import NUM_FEATURES, NUM_MARKET, WARM_UP, TradingEnv

from gradscope.settings import ZERO_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

CHECKPOINTS = (6_000, 8_000, 10_000)
SETTLED = 7_000  # from about here on no row without positions is left in the buffer
LATE = 8_000
POOLING = "q_net.features_extractor.pooling"
WATCHED = {
    "DQN": ("q_net.features_extractor.temporal_projection.weight",),
    "TD3": ("actor.mu.0.weight", "critic.qf0.2.weight", "critic.qf1.2.weight"),
}


class Watch(BaseCallback):
    """Counts the zeros of the watched weights at every update, and follows pooling, losses and rewards."""

    def __init__(self) -> None:
        super().__init__()
        self.zeros: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
        self.losses: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self.pooling: dict[int, list[float]] = {}
        self.rewards = 0.0

    def _on_training_start(self) -> None:
        weights = dict(self.model.policy.named_parameters())
        names = WATCHED[type(self.model).__name__]
        self.first = {name: weights[name].detach().clone() for name in names}
        policy = self.model.policy
        owners = [policy.actor, policy.critic] if hasattr(policy, "actor") else [policy]
        for owner in owners:
            owned = {id(each) for group in owner.optimizer.param_groups for each in group["params"]}
            watched = {name: weights[name] for name in names if id(weights[name]) in owned}
            owner.optimizer.register_step_pre_hook(partial(self._count, watched))

    def _count(self, watched: Mapping[str, torch.Tensor], *_: object) -> None:
        for name, weight in watched.items():
            if weight.grad is not None:
                zero = (weight.grad.abs() <= ZERO_TOLERANCE).float()
                columns = torch.arange(zero.shape[1]) % NUM_FEATURES < NUM_MARKET
                others = zero[:, columns] if name.endswith(FIRST_LAYERS) else zero
                self.zeros[name].append((self.model.num_timesteps, float(zero.mean()), float(others.mean())))

    def _on_rollout_start(self) -> None:
        for name, value in self.model.logger.name_to_value.items():
            if name.endswith("loss"):
                self.losses[name].append((self.num_timesteps, float(value)))

    def _on_step(self) -> bool:
        if self.num_timesteps > LATE:
            self.rewards += float(self.locals["rewards"].sum())
        if self.num_timesteps % 1_000 == 0:
            pooling = dict(self.model.policy.named_parameters()).get(POOLING)
            if pooling is not None:
                self.pooling[self.num_timesteps] = pooling.detach().tolist()
        return True


def measured(model: OffPolicyAlgorithm, watch: Watch, folder: Path) -> dict[str, Any]:
    """All numbers of one finished training; `folder` holds the recorder's timeline."""
    rows = timeline(folder)
    weights = dict(model.policy.named_parameters())
    moved = {name: weights[name].detach() - first for name, first in watch.first.items()}
    losses = [value for series in watch.losses.values() for _, value in series]
    return {
        "zeros": {name: zeros(series, rows, name) for name, series in watch.zeros.items()},
        "norms": norms(rows),
        "pooling": pooling(watch.pooling),
        "is_finite": all(map(math.isfinite, losses))
        and all(bool(each.isfinite().all()) for each in weights.values()),
        "loss": {name: late_mean(series) for name, series in watch.losses.items()},
        "moved": {name: float(moved[name].norm() / watch.first[name].norm()) for name in moved},
        "reward_8000_10000": watch.rewards,
        **greedy(model),
    }


def timeline(folder: Path) -> list[dict[str, Any]]:
    """The recorder's rows, each with its layers by name."""
    lines = [json.loads(line) for line in next(folder.glob("*timeline.jsonl")).read_text().splitlines()]
    layers = lines[0]["optimizers"]
    for row in lines[1:]:
        row["fraction"] = {
            layer["name"]: count / layer["num_elements"]
            for layer, count in zip(layers[row["optimizer"]], row["num_zero"], strict=True)
            if count is not None
        }
    return lines[1:]


def zeros(
    series: Sequence[tuple[int, float, float]], rows: Sequence[Mapping[str, Any]], name: str
) -> dict[str, Any]:
    """Fractions at the checkpoints (first update from there on), and the largest ones later."""
    active = [row for row in rows if row["num_active"] and name in row["fraction"]]
    return {
        "at": [next((whole for step, whole, _ in series if step >= each), None) for each in CHECKPOINTS],
        "timeline_max_active": max((row["fraction"][name] for row in active), default=None),
        "timeline_max_settled": max(
            (row["fraction"][name] for row in active if row["step"] > SETTLED), default=None
        ),
        "other_columns_max_settled": max(others for step, _, others in series if step > SETTLED),
        "other_columns_at": [next((o for step, _, o in series if step >= each), None) for each in CHECKPOINTS],
    }


def norms(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Median and maximum of the norm before clipping, by optimizer: first and last steps with positions."""
    found: dict[str, Any] = {}
    for optimizer in sorted({row["optimizer"] for row in rows}):
        for name, start, stop in (("first", WARM_UP, SETTLED), ("last", LATE, NUM_STEPS)):
            values = [
                math.nan if row["norm_before_clip"] is None else row["norm_before_clip"]
                for row in rows
                if row["optimizer"] == optimizer and start < row["step"] <= stop and row["num_active"]
            ]
            found[f"{optimizer}_{name}"] = [float(np.median(values)), float(np.max(values))]
    return found


def pooling(weights: Mapping[int, Sequence[float]]) -> dict[str, float] | None:
    """Entropy at steps 5,000 and 10,000, and the distance between the weights there."""
    if not weights:
        return None
    early, late = (torch.tensor(weights[step]) for step in (5_000, 10_000))
    path = [torch.tensor(weights[step]) for step in sorted(weights) if step >= 5_000]
    return {
        "entropy_5000": entropy(early),
        "entropy_10000": entropy(late),
        "moved": float((late - early).norm()),
        "path": sum(float((b - a).norm()) for a, b in zip(path, path[1:], strict=False)),
    }


def entropy(weights: torch.Tensor) -> float:
    """Of softmax(weights), in nats; at most log(4) = 1.386."""
    return float(torch.distributions.Categorical(logits=weights).entropy())


def late_mean(series: Sequence[tuple[int, float]]) -> float:
    """Mean over the last 2,000 steps."""
    return float(np.mean([value for step, value in series if step > LATE]))


def greedy(model: OffPolicyAlgorithm) -> dict[str, float]:
    """One deterministic pass over all bars, real positions of the training's last size.

    Sum of rewards, share of hours long, and how often a position was turned round.
    """
    trained_in = model.get_env().envs[0].unwrapped
    env = TradingEnv(
        natural_units=trained_in.natural_units,
        continuous=not hasattr(trained_in.action_space, "n"),
        paper_reward=trained_in.paper_reward,
        carry=trained_in.carry,
    )
    env.reset()  # the first pass starts late; the second has every bar
    observation, _ = env.reset()
    rewards, directions, is_over = [], [], False
    while not is_over:
        env.num_steps = NUM_STEPS  # else lots would go on growing, to twice what training has seen
        action, _ = model.predict(observation, deterministic=True)
        observation, reward, _, is_over, _ = env.step(action)
        rewards.append(reward)
        directions.append(env.position.direction)
    return {
        "reward_greedy": sum(rewards),
        "greedy_long": directions.count(1) / len(directions),
        "greedy_turns": sum(old != new for old, new in zip(directions, directions[1:], strict=False)),
    }
