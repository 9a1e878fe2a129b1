"""What the losses of all algorithms share: the Protocol, targets of Q-values, settings, a result."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import torch

from gradscope.recompute.networks import Mismatch
from gradscope.records import Clipping

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.recompute.batches import Batch
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.networks import Parameters

_MAX_NUMBER: Final = 1e18
"""Beyond any setting; NaN and infinities are beyond it too."""
_FRACTIONS: Final = ("gamma", "tau")


@dataclass(frozen=True, kw_only=True, eq=False)
class Gradients:
    """What the optimizers would see at one update, by layer; layers not recomputed are left out."""

    by_layer: Mapping[str, torch.Tensor]
    clipping: Clipping = field(default_factory=Clipping)
    loss: torch.Tensor | None = None
    """Of the values or critics, a number without graph."""


class Step(Protocol):
    """An optimizer's step on the critics, done on copies."""

    def stepped(self, parameters: Parameters, gradients: Parameters) -> dict[str, torch.Tensor]:
        """The critics' parameters after it; nothing given is changed."""


class Losses(Protocol):
    """One algorithm's networks and losses."""

    @property
    def names(self) -> Sequence[str]:
        """Parameters of the policy that it knows, targets included."""

    @property
    def targets(self) -> Mapping[str, str]:
        """Name of each target network's parameter to the online one it follows."""

    @property
    def runs_user_code(self) -> bool:
        """Whether its roles call modules of the user's, which may draw random numbers of their own."""

    def gradients(
        self, parameters: Parameters, batch: Batch, noise: torch.Generator, step: Step | None
    ) -> Gradients:
        """Gradients on one batch; actors are left out where the critic's ``step`` is not known."""


def gradients_of(loss: torch.Tensor, parameters: Parameters, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Gradient of a loss by name, without parameters that it does not use; none is written to."""
    found = torch.autograd.grad(loss, [parameters[name] for name in names], allow_unused=True)
    return {name: each for name, each in zip(names, found, strict=True) if each is not None}


def target_values(batch: Batch, following: torch.Tensor, gamma: float) -> torch.Tensor:
    """Reward + (1 - end) gamma Q'(s'), [rows, 1]: in the library's order of operations."""
    discounts = gamma if batch.discounts is None else batch.discounts
    return batch.rewards + (1 - batch.ends) * discounts * following


def choices_of(losses: Losses, batch: Batch) -> dict[str, Any]:
    """Discrete actions of a batch, [rows, 1], and how many there are to choose from; else nothing."""
    number = getattr(losses, "num_choices", None)
    return {} if number is None else {"actions": batch.actions.numpy(), "num_actions": number}


def number_of(training: Training, name: str) -> float:
    """A setting of the run.

    Raises:
        Mismatch: the checkpoint does not hold it as a plain number, or it is impossible.
    """
    value = training.settings.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _MAX_NUMBER:
        raise Mismatch(f"the checkpoint's settings hold no number {name}")
    if name in _FRACTIONS and not 0 <= value <= 1:
        raise Mismatch(f"the checkpoint's {name} is {value:g}, not between 0 and 1")
    return float(value)


def clipping_of(found: Gradients, algorithm: str) -> Clipping:
    """Where nothing is clipped, the norm before is the norm after."""
    if found.clipping.norm_before_clip is not None or found.clipping.reasons:
        return found.clipping
    norms = [torch.linalg.vector_norm(each, dtype=torch.float64) for each in found.by_layer.values()]
    norm = float(torch.linalg.vector_norm(torch.stack(norms)))
    never = {"clip_coefficient": f"{algorithm} does not clip"}
    if math.isfinite(norm):
        return Clipping(norm_before_clip=norm, reasons=never)
    return Clipping(reasons={"norm_before_clip": "it is not finite", **never})
