"""TD3, and DDPG as its special case. Source: stable_baselines3/td3/td3.py, train()."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gradscope.recompute.losses import Gradients, gradients_of, number_of, target_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.recompute.batches import Batch
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.losses import Step
    from gradscope.recompute.networks import Parameters
    from gradscope.recompute.roles import Actor, Critics


@dataclass(frozen=True, kw_only=True, eq=False)
class Td3:
    """A deterministic actor, critics, and targets of both."""

    actor: Actor
    target_actor: Actor
    critics: Critics
    target_critics: Critics
    targets: Mapping[str, str]
    gamma: float
    target_noise: float
    """Standard deviation of the noise on the target's actions."""
    noise_clip: float
    runs_user_code: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters of all networks."""
        actors = self.actor.names + self.target_actor.names
        return actors + self.critics.names + self.target_critics.names

    def gradients(
        self, parameters: Parameters, batch: Batch, noise: torch.Generator, step: Step | None
    ) -> Gradients:
        """Gradients of the critics, and of the actor against the first critic after its step."""
        following = batch.next_observations
        with torch.no_grad():
            drawn = torch.empty_like(batch.actions).normal_(0, self.target_noise, generator=noise)
            drawn = drawn.clamp(-self.noise_clip, self.noise_clip)
            next_actions = (self.target_actor(parameters, following) + drawn).clamp(-1, 1)
            values = torch.cat(list(self.target_critics(parameters, following, next_actions)), dim=1)
            lowest, _ = torch.min(values, dim=1, keepdim=True)
            wanted = target_values(batch, lowest, self.gamma)
        estimates = self.critics(parameters, batch.observations, batch.actions)
        loss = sum(torch.nn.functional.mse_loss(each, wanted) for each in estimates)
        assert isinstance(loss, torch.Tensor)
        found = gradients_of(loss, parameters, self.critics.names)
        if step is not None:
            stepped = {**parameters, **step.stepped(parameters, found)}
            actions = self.actor(parameters, batch.observations)
            chosen = self.critics.first(stepped, batch.observations, actions)
            found |= gradients_of(-chosen.mean(), parameters, self.actor.names)
        return Gradients(by_layer=found, loss=loss.detach())


def td3(
    training: Training,
    *,
    actor: Actor,
    target_actor: Actor,
    critics: Critics,
    target_critics: Critics,
    targets: Mapping[str, str],
    runs_user_code: bool = False,
) -> Td3:
    """The losses of a checkpoint over these networks.

    Raises:
        Mismatch: a setting is missing.
    """
    return Td3(
        actor=actor,
        target_actor=target_actor,
        critics=critics,
        target_critics=target_critics,
        targets=targets,
        gamma=number_of(training, "gamma"),
        target_noise=number_of(training, "target_policy_noise"),
        noise_clip=number_of(training, "target_noise_clip"),
        runs_user_code=runs_user_code,
    )


def skips_actor(training: Training) -> bool:
    """Whether the library's next train() would leave the actor alone (policy_delay).

    Raises:
        Mismatch: the checkpoint does not say.
    """
    updates, delay = (int(number_of(training, name)) for name in ("_n_updates", "policy_delay"))
    return bool((updates + 1) % max(delay, 1))
