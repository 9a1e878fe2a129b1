"""Soft actor-critic. Source: stable_baselines3/sac/sac.py, train()."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gradscope.recompute.gaussian_actor import gaussian_actor
from gradscope.recompute.losses import (
    Gradients,
    critics,
    flat,
    followed,
    gradients_of,
    names_of,
    number_of,
    target_values,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradscope.recompute.batches import Batch
    from gradscope.recompute.critic_step import CriticStep
    from gradscope.recompute.gaussian_actor import GaussianActor
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.networks import Parameters, Perceptron, Shapes


@dataclass(frozen=True, kw_only=True, eq=False)
class Sac:
    """A stochastic actor, critics, and the critics' targets."""

    actor: GaussianActor
    critics: tuple[Perceptron, ...]
    target_critics: tuple[Perceptron, ...]
    targets: Mapping[str, str]
    gamma: float

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters of all networks."""
        return self.actor.names + names_of(self.critics + self.target_critics)

    def gradients(
        self, parameters: Parameters, batch: Batch, noise: torch.Generator, step: CriticStep | None
    ) -> Gradients:
        """Gradients of the entropy coefficient, the critics, and the actor against the stepped critics."""
        observations, following = flat(batch.observations), flat(batch.next_observations)
        actions, log_prob = self.actor(parameters, observations, noise)
        found, coefficient = self.actor.entropy(parameters, log_prob)
        with torch.no_grad():
            next_actions, next_log_prob = self.actor(parameters, following, noise)
            values = _lowest(self.target_critics, parameters, following, next_actions)
            wanted = target_values(batch, values - coefficient * next_log_prob, self.gamma)
        inputs = torch.cat([observations, batch.actions], dim=1)
        estimates = [critic(parameters, inputs) for critic in self.critics]
        loss = 0.5 * sum(torch.nn.functional.mse_loss(each, wanted) for each in estimates)
        assert isinstance(loss, torch.Tensor)
        by_critic = gradients_of(loss, parameters, names_of(self.critics))
        found |= by_critic
        if step is not None:
            stepped = step.stepped(parameters, by_critic)
            lowest = _lowest(self.critics, stepped, observations, actions)
            actor_loss = (coefficient * log_prob - lowest).mean()
            found |= gradients_of(actor_loss, parameters, self.actor.names)
        return Gradients(by_layer=found)


def _lowest(
    networks: tuple[Perceptron, ...],
    parameters: Parameters,
    observations: torch.Tensor,
    actions: torch.Tensor,
) -> torch.Tensor:
    """Smallest of the critics' values, [rows, 1]."""
    inputs = torch.cat([observations, actions], dim=1)
    values = torch.cat([network(parameters, inputs) for network in networks], dim=1)
    lowest, _ = torch.min(values, dim=1, keepdim=True)
    return lowest


def sac(
    training: Training,
    shapes: Shapes,
    *,
    num_inputs: int,
    num_actions: int,
    activation: Callable[[torch.Tensor], torch.Tensor],
) -> Sac:
    """The losses of a checkpoint whose parameters have these shapes.

    Raises:
        Mismatch: other networks than SAC's, or a setting is missing.
    """
    actor = gaussian_actor(
        training, shapes, num_inputs=num_inputs, num_actions=num_actions, activation=activation
    )
    online = critics(shapes, "critic.", num_inputs + num_actions, activation)
    target = critics(shapes, "critic_target.", num_inputs + num_actions, activation)
    return Sac(
        actor=actor,
        critics=online,
        target_critics=target,
        targets=followed(online, target, shapes),
        gamma=number_of(training, "gamma"),
    )
