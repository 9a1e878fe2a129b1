"""The stochastic actor of SAC and TQC.

Source: stable_baselines3/sac/policies.py, common/distributions.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from gradscope.recompute.activations import watching
from gradscope.recompute.networks import perceptron, single

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradscope.recompute.networks import Parameters, Perceptron, Shapes
    from gradscope.recompute.roles import Features, Observations

LOG_STD: Final = (-20, 2)
EPSILON: Final = 1e-6
"""Keeps the logarithm of tanh's slope finite."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GaussianActor:
    """A Gaussian over actions, squashed by tanh."""

    features: Features
    latent: Perceptron
    mean: Perceptron
    log_std: Perceptron

    @property
    def names(self) -> tuple[str, ...]:
        """Its parameters."""
        return self.features.names + self.latent.names + self.mean.names + self.log_std.names

    def __call__(
        self, parameters: Parameters, observations: Observations, noise: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A sampled action in -1..1 [rows, actions] and its log-probability [rows, 1]."""
        with watching():
            latent = self.latent(parameters, self.features(parameters, observations))
            mean = self.mean(parameters, latent)
            log_std = torch.clamp(self.log_std(parameters, latent), *LOG_STD)
        deviation = torch.ones_like(mean) * log_std.exp()
        normal = torch.distributions.Normal(mean, deviation, validate_args=False)
        # What rsample() does, with a generator of our own.
        drawn = torch.empty(mean.shape, dtype=mean.dtype).normal_(generator=noise)
        gaussian = normal.loc + drawn * normal.scale
        actions = torch.tanh(gaussian)
        log_prob: torch.Tensor = normal.log_prob(gaussian).sum(dim=1)  # type: ignore[no-untyped-call]
        log_prob = log_prob - torch.sum(torch.log(1 - actions**2 + EPSILON), dim=1)
        return actions, log_prob.reshape(-1, 1)


def gaussian_actor(
    shapes: Shapes,
    features: Features,
    *,
    num_actions: int,
    activation: Callable[[torch.Tensor], torch.Tensor],
) -> GaussianActor:
    """The actor of a policy whose parameters have these shapes.

    Raises:
        Mismatch: another network.
    """
    latent = perceptron(
        shapes, "actor.latent_pi.", num_inputs=features.width, num_outputs=None, activation=activation
    )
    width = shapes[latent.layers[-1][1]][0] if latent.layers else features.width
    mean, log_std = (
        single(shapes, name, num_inputs=width, num_outputs=num_actions)
        for name in ("actor.mu", "actor.log_std")
    )
    return GaussianActor(features=features, latent=latent, mean=mean, log_std=log_std)
