"""The parts of a live policy that the losses call (roles.py); random draws come from the global generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from gradscope.recompute.networks import Parameters
    from gradscope.recompute.roles import Observations
    from gradscope.recompute.trusted.live import Live


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveValues:
    """Network of DQN and QR-DQN."""

    live: Live
    network: Any
    names: tuple[str, ...]

    def __call__(self, parameters: Parameters, observations: Observations) -> torch.Tensor:
        """Values or quantiles, [rows, ...]."""
        found: torch.Tensor = self.live.called(parameters, lambda: self.network(observations))
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveSampledActor:
    """Actor of SAC and TQC."""

    live: Live
    network: Any
    names: tuple[str, ...]

    def __call__(
        self, parameters: Parameters, observations: Observations, noise: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sampled actions and their log-probabilities [rows, 1]."""
        assert noise is torch.default_generator
        actions, log_prob = self.live.called(parameters, lambda: self.network.action_log_prob(observations))
        return actions, log_prob.reshape(-1, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveActor:
    """Actor of TD3 and DDPG."""

    live: Live
    network: Any
    names: tuple[str, ...]

    def __call__(self, parameters: Parameters, observations: Observations) -> torch.Tensor:
        """Actions, [rows, actions]."""
        found: torch.Tensor = self.live.called(parameters, lambda: self.network(observations))
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveCritics:
    """All critics of SAC, TQC, TD3 and DDPG."""

    live: Live
    network: Any
    names: tuple[str, ...]

    def __call__(
        self, parameters: Parameters, observations: Observations, actions: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Of each critic [rows, outputs]."""
        found = self.live.called(parameters, lambda: self.network(observations, actions))
        # TQC stacks its critics' quantiles: [rows, critics, quantiles].
        return found.unbind(1) if isinstance(found, torch.Tensor) else tuple(found)

    def first(
        self, parameters: Parameters, observations: Observations, actions: torch.Tensor
    ) -> torch.Tensor:
        """Of the first critic alone."""
        found: torch.Tensor = self.live.called(
            parameters, lambda: self.network.q1_forward(observations, actions)
        )
        return found
