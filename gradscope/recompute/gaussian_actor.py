"""The stochastic actor of SAC and TQC, and the entropy coefficient it is trained with.

Source: stable_baselines3/sac/policies.py, common/distributions.py, and train() of both algorithms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from gradscope.recompute.losses import gradients_of, names_of, number_of
from gradscope.recompute.networks import Mismatch, perceptron, single

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradscope.recompute.inputs import Training
    from gradscope.recompute.networks import Parameters, Perceptron, Shapes

ENTROPY: Final = "log_ent_coef"
FIXED_ENTROPY: Final = "ent_coef_tensor"
LOG_STD: Final = (-20, 2)
EPSILON: Final = 1e-6
"""Keeps the logarithm of tanh's slope finite."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GaussianActor:
    """A Gaussian over actions, squashed by tanh, and the entropy it is held at."""

    latent: Perceptron
    mean: Perceptron
    log_std: Perceptron
    target_entropy: float | None
    """None where the entropy coefficient is fixed."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its parameters, without the entropy coefficient."""
        return names_of([self.latent, self.mean, self.log_std])

    def __call__(
        self, parameters: Parameters, observations: torch.Tensor, noise: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A sampled action in -1..1 [rows, actions] and its log-probability [rows, 1]."""
        latent = self.latent(parameters, observations)
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

    def entropy(
        self, parameters: Parameters, log_prob: torch.Tensor
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Gradient of the coefficient's logarithm, where it is learned, and the coefficient."""
        if self.target_entropy is None:
            return {}, parameters[FIXED_ENTROPY]
        logarithm = parameters[ENTROPY]
        loss = -(logarithm * (log_prob + self.target_entropy).detach()).mean()
        return gradients_of(loss, parameters, [ENTROPY]), torch.exp(logarithm.detach())


def gaussian_actor(
    training: Training,
    shapes: Shapes,
    *,
    num_inputs: int,
    num_actions: int,
    activation: Callable[[torch.Tensor], torch.Tensor],
) -> GaussianActor:
    """The actor of a checkpoint whose parameters have these shapes.

    Raises:
        Mismatch: another network, or the entropy coefficient is missing.
    """
    known = [each for name, each in training.variables.items() if name in {ENTROPY, FIXED_ENTROPY}]
    if [(each.size, str(each.dtype)) for each in known] != [(1, "float32")]:
        raise Mismatch("the checkpoint does not hold one entropy coefficient")
    latent = perceptron(
        shapes, "actor.latent_pi.", num_inputs=num_inputs, num_outputs=None, activation=activation
    )
    width = shapes[latent.layers[-1][1]][0] if latent.layers else num_inputs
    mean, log_std = (
        single(shapes, name, num_inputs=width, num_outputs=num_actions)
        for name in ("actor.mu", "actor.log_std")
    )
    return GaussianActor(
        latent=latent,
        mean=mean,
        log_std=log_std,
        target_entropy=number_of(training, "target_entropy") if ENTROPY in training.variables else None,
    )
