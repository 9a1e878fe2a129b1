"""The losses of PPO, A2C and RecurrentPPO.

Source: train() in stable_baselines3/ppo/ppo.py, stable_baselines3/a2c/a2c.py and
sb3_contrib/ppo_recurrent/ppo_recurrent.py, in their order of operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import torch

from gradscope.recompute.dqn import clipped
from gradscope.recompute.losses import Gradients, gradients_of

if TYPE_CHECKING:
    from gradscope.recompute.networks import Parameters
    from gradscope.recompute.roles import Observations
    from gradscope.recompute.rollout_batches import Memory, RolloutBatch, States

PPO: Final = "PPO"
A2C: Final = "A2C"
RECURRENT: Final = "RecurrentPPO"
ON_POLICY: Final = (PPO, A2C, RECURRENT)
EPSILON: Final = 1e-8
"""Keeps the division by the advantages' deviation finite."""

Judged = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]


class RecurrentActorCritic(Protocol):
    """Policy of RecurrentPPO."""

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters it owns."""

    def __call__(
        self, parameters: Parameters, observations: Observations, actions: torch.Tensor, memory: Memory
    ) -> Judged:
        """Values, log-probabilities of the actions, entropies: each [rows], padding among them."""

    def stepped(
        self, parameters: Parameters, observations: Observations, actions: torch.Tensor, memory: Memory
    ) -> tuple[Judged, States, States]:
        """The same, and the states of actor and critic behind the rows."""


@dataclass(frozen=True, kw_only=True)
class OnPolicySettings:
    """Numbers of one update."""

    algorithm: str
    entropy_weight: float
    value_weight: float
    max_grad_norm: float
    normalizes_advantages: bool
    clip_range: float
    """Of the ratio of new to old probability; A2C has none."""
    value_clip_range: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class OnPolicy:
    """One policy and the numbers of its loss."""

    policy: Any
    """Called with parameters, observations and actions; for sequences a RecurrentActorCritic."""
    settings: OnPolicySettings
    names: tuple[str, ...]
    """The policy's parameters in file order, which is the order the library clips in."""

    def judged(self, parameters: Parameters, batch: RolloutBatch) -> Judged:
        """Values, log-probabilities and entropies of a batch by some weights: each [rows]."""
        memory = () if batch.memory is None else (batch.memory,)
        found: Judged = self.policy(parameters, batch.observations, batch.actions, *memory)
        return found

    def gradients(
        self, parameters: Parameters, batch: RolloutBatch, noise: object = None, step: object = None
    ) -> Gradients:
        """Gradients after clipping. There is neither noise nor another network's step."""
        del noise, step
        loss = self.loss(parameters, batch)
        found = gradients_of(loss, parameters, self.names)
        clipping = clipped(found, self.settings.max_grad_norm)
        return Gradients(by_layer=found, clipping=clipping, loss=loss.detach())

    def loss(self, parameters: Parameters, batch: RolloutBatch) -> torch.Tensor:
        """Policy, entropy and value loss, weighted."""
        values, log_prob, entropy = self.judged(parameters, batch)
        mask = None if batch.memory is None else batch.memory.mask
        advantages = normalized(batch.advantages, mask, self.settings)
        policy_loss = _policy_loss(log_prob, batch, advantages, self.settings)
        value_loss = _value_loss(values, batch, self.settings)
        entropies = log_prob if entropy is None else entropy
        kept = entropies if mask is None else entropies[mask]
        entropy_loss = -torch.mean(kept if entropy is not None else -kept)
        return (
            policy_loss
            + self.settings.entropy_weight * entropy_loss
            + self.settings.value_weight * value_loss
        )


def normalized(
    advantages: torch.Tensor, mask: torch.Tensor | None, settings: OnPolicySettings
) -> torch.Tensor:
    """Advantages with mean 0 and deviation 1 over the batch, where the run does so."""
    # PPO alone leaves a single row as it is.
    is_single = settings.algorithm == PPO and len(advantages) == 1
    if not settings.normalizes_advantages or is_single:
        return advantages
    real = advantages if mask is None else advantages[mask]
    return (advantages - real.mean()) / (real.std() + EPSILON)


def _policy_loss(
    log_prob: torch.Tensor, batch: RolloutBatch, advantages: torch.Tensor, settings: OnPolicySettings
) -> torch.Tensor:
    if settings.algorithm == A2C:
        return -(advantages * log_prob).mean()
    ratio = torch.exp(log_prob - batch.log_probs)
    free = advantages * ratio
    held = advantages * torch.clamp(ratio, 1 - settings.clip_range, 1 + settings.clip_range)
    lower = torch.min(free, held)
    return -torch.mean(lower[batch.memory.mask]) if batch.memory is not None else -lower.mean()


def _value_loss(values: torch.Tensor, batch: RolloutBatch, settings: OnPolicySettings) -> torch.Tensor:
    width = settings.value_clip_range
    if width is not None:
        values = batch.values + torch.clamp(values - batch.values, -width, width)
    if batch.memory is None:
        return torch.nn.functional.mse_loss(batch.returns, values)
    return torch.mean(((batch.returns - values) ** 2)[batch.memory.mask])
