"""Soft actor-critic. Source: stable_baselines3/sac/sac.py, train()."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gradscope.recompute.entropy import entropy
from gradscope.recompute.losses import Gradients, gradients_of, number_of, target_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.recompute.batches import Batch
    from gradscope.recompute.entropy import Entropy
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.losses import Step
    from gradscope.recompute.networks import Parameters
    from gradscope.recompute.roles import Critics, SampledActor


@dataclass(frozen=True, kw_only=True, eq=False)
class Sac:
    """A stochastic actor, critics, and the critics' targets."""

    actor: SampledActor
    critics: Critics
    target_critics: Critics
    targets: Mapping[str, str]
    entropy: Entropy
    gamma: float
    runs_user_code: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters of all networks."""
        return self.actor.names + self.critics.names + self.target_critics.names

    def gradients(
        self, parameters: Parameters, batch: Batch, noise: torch.Generator, step: Step | None
    ) -> Gradients:
        """Gradients of the entropy coefficient, the critics, and the actor against the stepped critics."""
        actions, log_prob = self.actor(parameters, batch.observations, noise)
        found, coefficient = self.entropy(parameters, log_prob)
        with torch.no_grad():
            next_actions, next_log_prob = self.actor(parameters, batch.next_observations, noise)
            values = _lowest(self.target_critics(parameters, batch.next_observations, next_actions))
            wanted = target_values(batch, values - coefficient * next_log_prob, self.gamma)
        estimates = self.critics(parameters, batch.observations, batch.actions)
        loss = 0.5 * sum(torch.nn.functional.mse_loss(each, wanted) for each in estimates)
        assert isinstance(loss, torch.Tensor)
        by_critic = gradients_of(loss, parameters, self.critics.names)
        found |= by_critic
        if step is not None:
            stepped = {**parameters, **step.stepped(parameters, by_critic)}
            lowest = _lowest(self.critics(stepped, batch.observations, actions))
            actor_loss = (coefficient * log_prob - lowest).mean()
            found |= gradients_of(actor_loss, parameters, self.actor.names)
        return Gradients(by_layer=found, loss=loss.detach())


def _lowest(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Smallest of the critics' values, [rows, 1]."""
    lowest, _ = torch.min(torch.cat(list(values), dim=1), dim=1, keepdim=True)
    return lowest


def sac(
    training: Training,
    *,
    actor: SampledActor,
    critics: Critics,
    target_critics: Critics,
    targets: Mapping[str, str],
    runs_user_code: bool = False,
) -> Sac:
    """The losses of a checkpoint over these networks.

    Raises:
        Mismatch: a setting or the entropy coefficient is missing.
    """
    return Sac(
        actor=actor,
        critics=critics,
        target_critics=target_critics,
        targets=targets,
        entropy=entropy(training),
        gamma=number_of(training, "gamma"),
        runs_user_code=runs_user_code,
    )
