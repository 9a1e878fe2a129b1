"""Losses over quantiles: QR-DQN and TQC. Source: train() of both in sb3_contrib, and common/utils.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gradscope.recompute.dqn import clipped
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
    width_of,
)
from gradscope.recompute.networks import Mismatch, perceptron

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradscope.recompute.batches import Batch
    from gradscope.recompute.critic_step import CriticStep
    from gradscope.recompute.gaussian_actor import GaussianActor
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.networks import Parameters, Perceptron, Shapes


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

    online: Perceptron
    target: Perceptron
    targets: Mapping[str, str]
    gamma: float
    max_grad_norm: float | None
    num_quantiles: int
    num_choices: int

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters of both networks."""
        return self.online.names + self.target.names

    def gradients(
        self, parameters: Parameters, batch: Batch, noise: torch.Generator, step: CriticStep | None
    ) -> Gradients:
        """Gradients after clipping. There is neither noise nor an actor."""
        del noise, step
        shape = -1, self.num_quantiles, self.num_choices
        chosen = len(batch.actions), self.num_quantiles, 1
        with torch.no_grad():
            following = self.target(parameters, flat(batch.next_observations)).view(shape)
            best = following.mean(dim=1, keepdim=True).argmax(dim=2, keepdim=True).expand(chosen)
            wanted = target_values(batch, following.gather(dim=2, index=best).squeeze(dim=2), self.gamma)
        estimates = self.online(parameters, flat(batch.observations)).view(shape)
        taken = batch.actions[..., None].long().expand(chosen)
        current = torch.gather(estimates, dim=2, index=taken).squeeze(dim=2)
        loss = pairwise_loss(current, wanted).sum(dim=-2).mean()
        found = gradients_of(loss, parameters, self.online.names)
        if self.max_grad_norm is None:
            return Gradients(by_layer=found)
        return Gradients(by_layer=found, clipping=clipped(found, self.max_grad_norm))


@dataclass(frozen=True, kw_only=True, eq=False)
class Tqc:
    """A stochastic actor, critics of quantiles, and the critics' targets."""

    actor: GaussianActor
    critics: tuple[Perceptron, ...]
    target_critics: tuple[Perceptron, ...]
    targets: Mapping[str, str]
    gamma: float
    num_kept: int
    """Of all critics' quantiles, the lowest."""

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
            values = _all(self.target_critics, parameters, following, next_actions)
            values, _ = torch.sort(values.reshape(len(observations), -1))
            values = values[:, : self.num_kept] - coefficient * next_log_prob
            wanted = target_values(batch, values, self.gamma).unsqueeze(dim=1)
        current = _all(self.critics, parameters, observations, batch.actions)
        by_critic = gradients_of(pairwise_loss(current, wanted).mean(), parameters, names_of(self.critics))
        found |= by_critic
        if step is not None:
            stepped = step.stepped(parameters, by_critic)
            value = _all(self.critics, stepped, observations, actions).mean(dim=2).mean(dim=1, keepdim=True)
            actor_loss = (coefficient * log_prob - value).mean()
            found |= gradients_of(actor_loss, parameters, self.actor.names)
        return Gradients(by_layer=found)


def _all(
    networks: tuple[Perceptron, ...],
    parameters: Parameters,
    observations: torch.Tensor,
    actions: torch.Tensor,
) -> torch.Tensor:
    """Quantiles of all critics, [rows, critics, quantiles]."""
    inputs = torch.cat([observations, actions], dim=1)
    return torch.stack([network(parameters, inputs) for network in networks], dim=1)


def qrdqn(
    training: Training,
    shapes: Shapes,
    *,
    num_inputs: int,
    num_actions: int,
    activation: Callable[[torch.Tensor], torch.Tensor],
) -> Qrdqn:
    """The losses of a checkpoint whose parameters have these shapes.

    Raises:
        Mismatch: other networks than QR-DQN's, or a setting is missing.
    """
    del num_actions
    width = width_of(shapes, "quantile_net.")
    online, target = (
        perceptron(shapes, prefix, num_inputs=num_inputs, num_outputs=width, activation=activation)
        for prefix in ("quantile_net.quantile_net.", "quantile_net_target.quantile_net.")
    )
    num_quantiles = int(number_of(training, "n_quantiles"))
    if num_quantiles < 1 or width % num_quantiles:
        raise Mismatch(f"{width} outputs are not {num_quantiles} quantiles for each choice")
    has_limit = training.settings.get("max_grad_norm", "") is not None
    return Qrdqn(
        online=online,
        target=target,
        targets=followed([online], [target], shapes),
        gamma=number_of(training, "gamma"),
        max_grad_norm=number_of(training, "max_grad_norm") if has_limit else None,
        num_quantiles=num_quantiles,
        num_choices=width // num_quantiles,
    )


def tqc(
    training: Training,
    shapes: Shapes,
    *,
    num_inputs: int,
    num_actions: int,
    activation: Callable[[torch.Tensor], torch.Tensor],
) -> Tqc:
    """The losses of a checkpoint whose parameters have these shapes.

    Raises:
        Mismatch: other networks than TQC's, or a setting is missing.
    """
    width = width_of(shapes, "critic.qf0.")
    online, target = (
        critics(shapes, prefix, num_inputs + num_actions, activation, num_outputs=width)
        for prefix in ("critic.", "critic_target.")
    )
    dropped = int(number_of(training, "top_quantiles_to_drop_per_net"))
    if not 0 <= dropped < width:
        raise Mismatch(f"{dropped} of {width} quantiles are dropped")
    return Tqc(
        actor=gaussian_actor(
            training, shapes, num_inputs=num_inputs, num_actions=num_actions, activation=activation
        ),
        critics=online,
        target_critics=target,
        targets=followed(online, target, shapes),
        gamma=number_of(training, "gamma"),
        num_kept=(width - dropped) * len(online),
    )
