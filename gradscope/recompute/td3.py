"""TD3, and DDPG as its special case. Source: stable_baselines3/td3/td3.py, train()."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

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
from gradscope.recompute.networks import perceptron

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradscope.recompute.batches import Batch
    from gradscope.recompute.critic_step import CriticStep
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.networks import Parameters, Perceptron, Shapes


@dataclass(frozen=True, kw_only=True, eq=False)
class Td3:
    """A deterministic actor, critics, and targets of both."""

    actor: Perceptron
    target_actor: Perceptron
    critics: tuple[Perceptron, ...]
    target_critics: tuple[Perceptron, ...]
    targets: Mapping[str, str]
    gamma: float
    target_noise: float
    """Standard deviation of the noise on the target's actions."""
    noise_clip: float

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters of all networks."""
        return names_of((self.actor, self.target_actor, *self.critics, *self.target_critics))

    def gradients(
        self, parameters: Parameters, batch: Batch, noise: torch.Generator, step: CriticStep | None
    ) -> Gradients:
        """Gradients of the critics, and of the actor against the first critic after its step."""
        observations, following = flat(batch.observations), flat(batch.next_observations)
        with torch.no_grad():
            drawn = torch.empty_like(batch.actions).normal_(0, self.target_noise, generator=noise)
            drawn = drawn.clamp(-self.noise_clip, self.noise_clip)
            next_actions = (torch.tanh(self.target_actor(parameters, following)) + drawn).clamp(-1, 1)
            next_inputs = torch.cat([following, next_actions], dim=1)
            values = torch.cat([each(parameters, next_inputs) for each in self.target_critics], dim=1)
            lowest, _ = torch.min(values, dim=1, keepdim=True)
            wanted = target_values(batch, lowest, self.gamma)
        inputs = torch.cat([observations, batch.actions], dim=1)
        estimates = [critic(parameters, inputs) for critic in self.critics]
        loss = sum(torch.nn.functional.mse_loss(each, wanted) for each in estimates)
        assert isinstance(loss, torch.Tensor)
        found = gradients_of(loss, parameters, names_of(self.critics))
        if step is not None:
            stepped = step.stepped(parameters, found)
            actions = torch.tanh(self.actor(parameters, observations))
            chosen = self.critics[0](stepped, torch.cat([observations, actions], dim=1))
            found |= gradients_of(-chosen.mean(), parameters, self.actor.names)
        return Gradients(by_layer=found)


def td3(
    training: Training,
    shapes: Shapes,
    *,
    num_inputs: int,
    num_actions: int,
    activation: Callable[[torch.Tensor], torch.Tensor],
) -> Td3:
    """The losses of a checkpoint whose parameters have these shapes.

    Raises:
        Mismatch: other networks than TD3's, or a setting is missing.
    """
    actor, target_actor = (
        perceptron(shapes, prefix, num_inputs=num_inputs, num_outputs=num_actions, activation=activation)
        for prefix in ("actor.mu.", "actor_target.mu.")
    )
    online = critics(shapes, "critic.", num_inputs + num_actions, activation)
    target = critics(shapes, "critic_target.", num_inputs + num_actions, activation)
    return Td3(
        actor=actor,
        target_actor=target_actor,
        critics=online,
        target_critics=target,
        targets=followed((actor, *online), (target_actor, *target), shapes),
        gamma=number_of(training, "gamma"),
        target_noise=number_of(training, "target_policy_noise"),
        noise_clip=number_of(training, "target_noise_clip"),
    )


def skips_actor(training: Training) -> bool:
    """Whether the library's next train() would leave the actor alone (policy_delay).

    Raises:
        Mismatch: the checkpoint does not say.
    """
    updates, delay = (int(number_of(training, name)) for name in ("_n_updates", "policy_delay"))
    return bool((updates + 1) % max(delay, 1))
