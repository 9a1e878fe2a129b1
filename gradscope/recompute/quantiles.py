"""Losses over quantiles: QR-DQN and TQC. Source: train() of both in sb3_contrib, and common/utils.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gradscope.recompute.dqn import clipped
from gradscope.recompute.entropy import entropy
from gradscope.recompute.losses import Gradients, gradients_of, number_of, target_values
from gradscope.recompute.networks import Mismatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.recompute.batches import Batch
    from gradscope.recompute.entropy import Entropy
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.losses import Step
    from gradscope.recompute.networks import Parameters
    from gradscope.recompute.roles import Critics, SampledActor, Values


def pairwise_loss(current: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Quantile Huber loss of every pair, [..., quantiles, wanted quantiles]."""
    num_quantiles = current.shape[-1]
    middles = (torch.arange(num_quantiles, dtype=torch.float32) + 0.5) / num_quantiles
    middles = middles.view(*[1] * (current.ndim - 1), -1, 1)
    delta = wanted.unsqueeze(-2) - current.unsqueeze(-1)
    size = torch.abs(delta)
    huber = torch.where(size > 1, size - 0.5, delta**2 * 0.5)
    return torch.abs(middles - (delta.detach() < 0).float()) * huber


@dataclass(frozen=True, kw_only=True, eq=False)
class Qrdqn:
    """One network of quantiles for each choice, its target, one optimizer that may clip."""

    online: Values
    target: Values
    targets: Mapping[str, str]
    gamma: float
    max_grad_norm: float | None
    num_quantiles: int
    num_choices: int
    runs_user_code: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters of both networks."""
        return self.online.names + self.target.names

    def gradients(
        self, parameters: Parameters, batch: Batch, noise: torch.Generator, step: Step | None
    ) -> Gradients:
        """Gradients after clipping. There is neither noise nor an actor."""
        del noise, step
        shape = -1, self.num_quantiles, self.num_choices
        chosen = len(batch.actions), self.num_quantiles, 1
        with torch.no_grad():
            following = self.target(parameters, batch.next_observations).view(shape)
            best = following.mean(dim=1, keepdim=True).argmax(dim=2, keepdim=True).expand(chosen)
            wanted = target_values(batch, following.gather(dim=2, index=best).squeeze(dim=2), self.gamma)
        estimates = self.online(parameters, batch.observations).view(shape)
        taken = batch.actions[..., None].long().expand(chosen)
        current = torch.gather(estimates, dim=2, index=taken).squeeze(dim=2)
        loss = pairwise_loss(current, wanted).sum(dim=-2).mean()
        found = gradients_of(loss, parameters, self.online.names)
        if self.max_grad_norm is None:
            return Gradients(by_layer=found, loss=loss.detach())
        clipping = clipped(found, self.max_grad_norm)
        return Gradients(by_layer=found, clipping=clipping, loss=loss.detach())


@dataclass(frozen=True, kw_only=True, eq=False)
class Tqc:
    """A stochastic actor, critics of quantiles, and the critics' targets."""

    actor: SampledActor
    critics: Critics
    target_critics: Critics
    targets: Mapping[str, str]
    entropy: Entropy
    gamma: float
    num_kept: int
    """Of all critics' quantiles, the lowest."""
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
            values = torch.stack(
                self.target_critics(parameters, batch.next_observations, next_actions), dim=1
            )
            values, _ = torch.sort(values.reshape(len(actions), -1))
            values = values[:, : self.num_kept] - coefficient * next_log_prob
            wanted = target_values(batch, values, self.gamma).unsqueeze(dim=1)
        current = torch.stack(self.critics(parameters, batch.observations, batch.actions), dim=1)
        loss = pairwise_loss(current, wanted).mean()
        by_critic = gradients_of(loss, parameters, self.critics.names)
        found |= by_critic
        if step is not None:
            stepped = {**parameters, **step.stepped(parameters, by_critic)}
            quantiles = torch.stack(self.critics(stepped, batch.observations, actions), dim=1)
            value = quantiles.mean(dim=2).mean(dim=1, keepdim=True)
            actor_loss = (coefficient * log_prob - value).mean()
            found |= gradients_of(actor_loss, parameters, self.actor.names)
        return Gradients(by_layer=found, loss=loss.detach())


def qrdqn(
    training: Training,
    *,
    online: Values,
    target: Values,
    targets: Mapping[str, str],
    num_outputs: int,
    runs_user_code: bool = False,
) -> Qrdqn:
    """The losses of a checkpoint over these networks, whose outputs are quantiles of all choices.

    Raises:
        Mismatch: the outputs are no quantiles, or a setting is missing.
    """
    num_quantiles = int(number_of(training, "n_quantiles"))
    if num_quantiles < 1 or num_outputs % num_quantiles:
        raise Mismatch(f"{num_outputs} outputs are not {num_quantiles} quantiles for each choice")
    has_limit = training.settings.get("max_grad_norm", "") is not None
    return Qrdqn(
        online=online,
        target=target,
        targets=targets,
        gamma=number_of(training, "gamma"),
        max_grad_norm=number_of(training, "max_grad_norm") if has_limit else None,
        num_quantiles=num_quantiles,
        num_choices=num_outputs // num_quantiles,
        runs_user_code=runs_user_code,
    )


def tqc(
    training: Training,
    *,
    actor: SampledActor,
    critics: Critics,
    target_critics: Critics,
    targets: Mapping[str, str],
    num_critics: int,
    num_quantiles: int,
    runs_user_code: bool = False,
) -> Tqc:
    """The losses of a checkpoint over these networks; ``num_quantiles`` are those of one critic.

    Raises:
        Mismatch: a setting or the entropy coefficient is missing.
    """
    dropped = int(number_of(training, "top_quantiles_to_drop_per_net"))
    if not 0 <= dropped < num_quantiles:
        raise Mismatch(f"{dropped} of {num_quantiles} quantiles are dropped")
    return Tqc(
        actor=actor,
        critics=critics,
        target_critics=target_critics,
        targets=targets,
        entropy=entropy(training),
        gamma=number_of(training, "gamma"),
        num_kept=(num_quantiles - dropped) * num_critics,
        runs_user_code=runs_user_code,
    )
