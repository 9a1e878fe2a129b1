"""Log-probability and entropy of actions, as PPO and A2C see them.

Source: stable_baselines3/common/distributions.py over torch.distributions, written out in the same order
of operations: the order decides the last bit of the gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradscope.recompute.networks import Parameters

    Entropy = Callable[[], torch.Tensor]


class Distribution(Protocol):
    """What an action network's outputs mean."""

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters besides the action network's."""

    @property
    def num_outputs(self) -> int:
        """Outputs of the action network."""

    def __call__(
        self, parameters: Parameters, outputs: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, Entropy]:
        """Log-probabilities [rows], and what gives the entropies [rows]: the library asks for them later."""


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Independent normal actions; their deviation does not depend on the observation."""

    num_outputs: int
    names: tuple[str, ...] = ("log_std",)

    def __call__(
        self, parameters: Parameters, outputs: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, Entropy]:
        """Log-probabilities and entropies, [rows]."""
        deviation = torch.ones_like(outputs) * parameters["log_std"].exp()
        variance, logarithm = deviation**2, deviation.log()
        shifted = -((actions - outputs) ** 2) / (2 * variance)
        log_prob = shifted - logarithm - math.log(math.sqrt(2 * math.pi))
        return log_prob.sum(dim=1), lambda: (0.5 + 0.5 * math.log(2 * math.pi) + torch.log(deviation)).sum(
            dim=1
        )


@dataclass(frozen=True, kw_only=True)
class Categorical:
    """One choice."""

    num_outputs: int
    names: tuple[str, ...] = ()

    def __call__(
        self, parameters: Parameters, outputs: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, Entropy]:
        """Log-probabilities and entropies, [rows]."""
        del parameters
        logits = normalized(outputs)
        return chosen(logits, actions.long().flatten()), lambda: categorical_entropy(logits)


@dataclass(frozen=True, kw_only=True)
class MultiCategorical:
    """Several choices at once."""

    sizes: tuple[int, ...]
    names: tuple[str, ...] = ()

    @property
    def num_outputs(self) -> int:
        """Outputs of the action network."""
        return sum(self.sizes)

    def __call__(
        self, parameters: Parameters, outputs: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, Entropy]:
        """Log-probabilities and entropies, [rows]."""
        del parameters
        parts = [normalized(part) for part in torch.split(outputs, list(self.sizes), dim=1)]
        pairs = zip(parts, torch.unbind(actions, dim=1), strict=True)
        log_prob = torch.stack([chosen(logits, one) for logits, one in pairs], dim=1).sum(dim=1)
        return log_prob, lambda: torch.stack([categorical_entropy(each) for each in parts], dim=1).sum(dim=1)


@dataclass(frozen=True, kw_only=True)
class Bernoulli:
    """Switches."""

    num_outputs: int
    names: tuple[str, ...] = ()

    def __call__(
        self, parameters: Parameters, outputs: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, Entropy]:
        """Log-probabilities and entropies, [rows]."""
        del parameters
        loss = torch.nn.functional.binary_cross_entropy_with_logits
        log_prob = -loss(outputs, actions, reduction="none")
        return log_prob.sum(dim=1), lambda: loss(outputs, torch.sigmoid(outputs), reduction="none").sum(dim=1)


def normalized(outputs: torch.Tensor) -> torch.Tensor:
    """Logarithms of probabilities that sum to 1, [rows, choices]."""
    return outputs - outputs.logsumexp(dim=-1, keepdim=True)


def chosen(logits: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """Entry of each row's action, [rows]."""
    return logits.gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)


def categorical_entropy(logits: torch.Tensor) -> torch.Tensor:
    """Of each row."""
    probabilities = torch.softmax(logits, dim=-1)
    return -(torch.clamp(logits, min=torch.finfo(logits.dtype).min) * probabilities).sum(-1)
