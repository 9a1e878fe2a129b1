"""Roles played by networks rebuilt from names and shapes of their weights.

Source: forward() of the policies' networks in stable_baselines3 (dqn, td3 and common/policies.py) and
sb3_contrib (qrdqn, tqc).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gradscope.recompute.activations import watching

if TYPE_CHECKING:
    from gradscope.recompute.networks import Parameters, Perceptron
    from gradscope.recompute.roles import Features, Observations


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainValues:
    """Values of DQN, quantiles of QR-DQN."""

    features: Features
    network: Perceptron

    @property
    def names(self) -> tuple[str, ...]:
        """Its parameters."""
        return self.features.names + self.network.names

    def __call__(self, parameters: Parameters, observations: Observations) -> torch.Tensor:
        """Values [rows, outputs]."""
        with watching():
            return self.network(parameters, self.features(parameters, observations))


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainActor:
    """Deterministic actor of TD3."""

    features: Features
    network: Perceptron

    @property
    def names(self) -> tuple[str, ...]:
        """Its parameters."""
        return self.features.names + self.network.names

    def __call__(self, parameters: Parameters, observations: Observations) -> torch.Tensor:
        """Actions in -1..1, [rows, actions]."""
        with watching():
            return torch.tanh(self.network(parameters, self.features(parameters, observations)))


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainCritics:
    """Critics over one features extractor."""

    features: Features
    networks: tuple[Perceptron, ...]
    shares_features: bool = False
    """Whether the extractor is the actor's: then it learns from the actor's loss only."""

    @property
    def names(self) -> tuple[str, ...]:
        """Their parameters, without a shared extractor's."""
        return self.all_names[len(self.features.names) :] if self.shares_features else self.all_names

    @property
    def all_names(self) -> tuple[str, ...]:
        """Their parameters with the extractor's, whoever owns it."""
        return self.features.names + tuple(name for network in self.networks for name in network.names)

    def __call__(
        self, parameters: Parameters, observations: Observations, actions: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Of each critic, [rows, outputs]."""
        with watching():
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.shares_features):
                features = self.features(parameters, observations)
            inputs = torch.cat([features, actions], dim=1)
            return tuple(network(parameters, inputs) for network in self.networks)

    def first(
        self, parameters: Parameters, observations: Observations, actions: torch.Tensor
    ) -> torch.Tensor:
        """Of the first critic, [rows, outputs]."""
        with torch.no_grad():
            features = self.features(parameters, observations)
        return self.networks[0](parameters, torch.cat([features, actions], dim=1))
