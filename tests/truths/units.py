"""Units that are shut: planted, or trained until they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from truths.truth import Truth
from truths.worlds import Training

if TYPE_CHECKING:
    from collections.abc import Callable

TANH: Final = {
    "algorithm": "TD3",
    "options": {"learning_rate": 2e-2, "train_freq": 1},
    "policy": {"activation_fn": torch.nn.Tanh},
}
"""An actor and critics that saturate when they have far to go."""


def scaled_output(model: Any) -> None:
    """The actor's last weights grow until its tanh is flat everywhere."""
    with torch.no_grad():
        model.actor.mu[-2].weight.mul_(1e4)
        model.actor.mu[-2].bias.add_(1e3)


def negative_biases(model: Any) -> None:
    """Three quarters of the first layer's units are pushed below zero for good."""
    with torch.no_grad():
        model.q_net.q_net[0].bias[:48] = -1e3


def reached(scale: float) -> Callable[[Any, Any, int], float]:
    """Reward of an action that is right in the middle of its range, so that a healthy actor stays there."""
    return lambda seen, action, _: scale * float(-((action[0] - 0.5 * np.tanh(seen[0])) ** 2))


UNITS = (
    Truth(name="healthy TD3", made=Training(algorithm="TD3")),
    Truth(
        name="dead units, positions bystanders",
        made=Training(plant=negative_biases),
        twin="healthy DQN",
        supported=frozenset({"dead-units"}),
    ),
    Truth(
        name="saturated actor, positions bystanders",
        made=Training(algorithm="TD3", plant=scaled_output),
        twin="healthy TD3",
        supported=frozenset({"saturation"}),
    ),
    Truth(name="tanh, rewards of size 1", made=Training(**TANH, reward=reached(1.0))),
    Truth(
        name="tanh, rewards of size 1,000",
        made=Training(**TANH, reward=reached(1e3)),
        twin="tanh, rewards of size 1",
        supported=frozenset({"saturation"}),
    ),
)
