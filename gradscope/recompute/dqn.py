"""Deep Q-learning. Source: stable_baselines3/dqn/dqn.py, train() and _on_step()."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from gradscope.recompute.losses import Gradients, gradients_of, number_of, target_values
from gradscope.records import Clipping

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.recompute.batches import Batch
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.losses import Step
    from gradscope.recompute.networks import Parameters
    from gradscope.recompute.roles import Values

_PROGRESS: Final = (
    "num_timesteps",
    "_total_timesteps",
    "_current_progress_remaining",
    "_n_calls",
    "n_envs",
    "target_update_interval",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dqn:
    """One network of Q-values, its target, one optimizer that clips."""

    online: Values
    target: Values
    targets: Mapping[str, str]
    gamma: float
    max_grad_norm: float
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
        with torch.no_grad():
            following, _ = self.target(parameters, batch.next_observations).max(dim=1)
            wanted = target_values(batch, following.reshape(-1, 1), self.gamma)
        values = self.online(parameters, batch.observations)
        taken = torch.gather(values, dim=1, index=batch.actions.long())
        loss = torch.nn.functional.smooth_l1_loss(taken, wanted)
        found = gradients_of(loss, parameters, self.online.names)
        clipping = clipped(found, self.max_grad_norm)
        return Gradients(by_layer=found, clipping=clipping, loss=loss.detach())


def clipped(gradients: Mapping[str, torch.Tensor], max_norm: float) -> Clipping:
    """Clip in place, as clip_grad_norm_ does, and say what it did."""
    holders = [gradient.detach() for gradient in gradients.values()]
    for holder, gradient in zip(holders, gradients.values(), strict=True):
        holder.grad = gradient
    norm = float(torch.nn.utils.clip_grad_norm_(holders, max_norm))
    if not math.isfinite(norm):
        reason = "the norm before clipping is not finite"
        return Clipping(reasons=dict.fromkeys(("norm_before_clip", "clip_coefficient"), reason))
    return Clipping(norm_before_clip=norm, clip_coefficient=min(1.0, max_norm / (norm + 1e-6)))


def dqn(
    training: Training,
    *,
    online: Values,
    target: Values,
    targets: Mapping[str, str],
    num_outputs: int,
    runs_user_code: bool = False,
) -> Dqn:
    """The losses of a checkpoint over these networks.

    Raises:
        Mismatch: a setting is missing.
    """
    return Dqn(
        online=online,
        target=target,
        targets=targets,
        gamma=number_of(training, "gamma"),
        max_grad_norm=number_of(training, "max_grad_norm"),
        num_choices=num_outputs,
        runs_user_code=runs_user_code,
    )


def is_update_pending(training: Training) -> bool | None:
    """Whether the target network follows once more between the checkpoint and its next train().

    SB3 calls the checkpoint callback, then updates the training's progress, then DQN's _on_step: a
    progress that lags one step behind num_timesteps tells a save in between. _n_calls alone does not,
    it stays behind for ever in runs resumed from such a save. None where the progress fits neither.

    Raises:
        Mismatch: the checkpoint lacks one of the numbers.
    """
    steps, total, left, calls, environments, interval = (number_of(training, name) for name in _PROGRESS)
    if (calls + 1) % max(interval // environments, 1) or total <= 0:
        return False
    if left == 1 - steps / total:
        return False
    return True if left == 1 - (steps - environments) / total else None


def updated_targets(
    parameters: Parameters, targets: Mapping[str, str], tau: float
) -> dict[str, torch.Tensor]:
    """Target parameters after one polyak update, as new tensors."""
    with torch.no_grad():
        return {
            target: torch.add(parameters[target] * (1 - tau), parameters[own], alpha=tau)
            for target, own in targets.items()
        }
