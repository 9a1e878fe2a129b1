"""What the losses ask of networks: one Protocol for each part that a policy plays in training.

The same losses run networks rebuilt from their weights (plain.py) and a library's own modules. ``names``
are the trainable parameters that a role owns, in file order; a tensor shared by two roles belongs to the
one that stands first in the file. ``parameters`` holds every owned parameter by its name in the policy's
state dict; a role may look at parameters of others, it never writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias

import torch

if TYPE_CHECKING:
    Parameters: TypeAlias = Mapping[str, torch.Tensor]

Observations: TypeAlias = torch.Tensor | Mapping[str, torch.Tensor]
"""[rows, *shape], by key for a Dict space: after VecNormalize, of the buffer's type (bytes of images not
yet divided by 255, numbers of a Discrete space not yet one-hot)."""


class Features(Protocol):
    """Preprocessing and features extractor."""

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters it owns."""

    @property
    def width(self) -> int:
        """Features of a row."""

    def __call__(self, parameters: Parameters, observations: Observations) -> torch.Tensor:
        """Features, float32 [rows, width]."""


class Values(Protocol):
    """Network of DQN and QR-DQN."""

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters it owns."""

    def __call__(self, parameters: Parameters, observations: Observations) -> torch.Tensor:
        """Values (QR-DQN: quantiles outer, choices inner), [rows, outputs]."""


class SampledActor(Protocol):
    """Actor of SAC and TQC."""

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters it owns."""

    def __call__(
        self, parameters: Parameters, observations: Observations, noise: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sampled actions in -1..1 [rows, actions] and their log-probabilities [rows, 1]."""


class Actor(Protocol):
    """Actor of TD3 and DDPG."""

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters it owns."""

    def __call__(self, parameters: Parameters, observations: Observations) -> torch.Tensor:
        """Actions in -1..1, [rows, actions]."""


class Critics(Protocol):
    """All critics of SAC, TQC, TD3 and DDPG."""

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters they own."""

    def __call__(
        self, parameters: Parameters, observations: Observations, actions: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Of each critic [rows, outputs]; features shared with the actor get no gradient here."""

    def first(
        self, parameters: Parameters, observations: Observations, actions: torch.Tensor
    ) -> torch.Tensor:
        """Of the first critic alone; features get no gradient."""


class ActorCritic(Protocol):
    """Policy of PPO and A2C."""

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters it owns."""

    def __call__(
        self, parameters: Parameters, observations: Observations, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Values, log-probabilities of the actions, entropies (None where not known): each [rows]."""
