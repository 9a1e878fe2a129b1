"""What the losses of all algorithms share: targets of Q-values, settings, a result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import torch

from gradscope.recompute.networks import Mismatch, perceptron
from gradscope.records import Clipping

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradscope.recompute.batches import Batch
    from gradscope.recompute.critic_step import CriticStep
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.networks import Parameters, Perceptron, Shapes

_MAX_NUMBER: Final = 1e18
"""Beyond any setting; NaN and infinities are beyond it too."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Gradients:
    """What the optimizers would see at one update, by layer; layers not recomputed are left out."""

    by_layer: Mapping[str, torch.Tensor]
    clipping: Clipping = field(default_factory=Clipping)


class Losses(Protocol):
    """One algorithm's networks and losses."""

    @property
    def names(self) -> Sequence[str]:
        """Parameters of the policy that it knows, targets included."""

    @property
    def targets(self) -> Mapping[str, str]:
        """Name of each target network's parameter to the online one it follows."""

    def gradients(
        self, parameters: Parameters, batch: Batch, noise: torch.Generator, step: CriticStep | None
    ) -> Gradients:
        """Gradients on one batch; actors are left out where the critic's ``step`` is not known."""


def gradients_of(loss: torch.Tensor, parameters: Parameters, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Gradient of a loss by name; only these parameters are touched, and none is written to."""
    found = torch.autograd.grad(loss, [parameters[name] for name in names])
    return dict(zip(names, found, strict=True))


def target_values(batch: Batch, following: torch.Tensor, gamma: float) -> torch.Tensor:
    """Reward + (1 - end) gamma Q'(s'), [rows, 1]: in the library's order of operations."""
    discounts = gamma if batch.discounts is None else batch.discounts
    return batch.rewards + (1 - batch.ends) * discounts * following


def number_of(training: Training, name: str) -> float:
    """A setting of the run.

    Raises:
        Mismatch: the checkpoint does not hold it as a plain number.
    """
    value = training.settings.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _MAX_NUMBER:
        raise Mismatch(f"the checkpoint's settings hold no number {name}")
    return float(value)


def flat(observations: torch.Tensor) -> torch.Tensor:
    """Observations as a plain features extractor gives them, float32 [rows, features]."""
    return observations.float().flatten(1)


def critics(
    shapes: Shapes,
    prefix: str,
    num_inputs: int,
    activation: Callable[[torch.Tensor], torch.Tensor],
    num_outputs: int = 1,
) -> tuple[Perceptron, ...]:
    """All critics under a prefix.

    Raises:
        Mismatch: none, or one that is no chain of linear layers.
    """
    found: list[Perceptron] = []
    while any(name.startswith(f"{prefix}qf{len(found)}.") for name in shapes):
        name = f"{prefix}qf{len(found)}."
        found.append(
            perceptron(shapes, name, num_inputs=num_inputs, num_outputs=num_outputs, activation=activation)
        )
    if not found:
        raise Mismatch(f"{prefix}* holds no critic")
    return tuple(found)


def width_of(shapes: Shapes, prefix: str) -> int:
    """Outputs of the last layer under a prefix.

    Raises:
        Mismatch: there is none.
    """
    widths = [shape[0] for name, shape in shapes.items() if name.startswith(prefix) and len(shape) == 1]
    if not widths:
        raise Mismatch(f"there is no {prefix}*")
    return widths[-1]


def names_of(networks: Sequence[Perceptron]) -> tuple[str, ...]:
    """Their parameters, in order."""
    return tuple(name for network in networks for name in network.names)


def followed(online: Sequence[Perceptron], targets: Sequence[Perceptron], shapes: Shapes) -> dict[str, str]:
    """Each target's parameter with the online one of the same place.

    Raises:
        Mismatch: their shapes differ.
    """
    pairs = dict(zip(names_of(targets), names_of(online), strict=False))
    fits = all(shapes[target] == shapes[own] for target, own in pairs.items())
    if not fits or len(names_of(targets)) != len(names_of(online)):
        raise Mismatch("target networks and their originals differ in shape")
    return pairs
