"""One training with one remedy: zeros and losses, gradient step by gradient step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from gradscope.measure import ColumnZeros
from gradscope.recompute.batches import draws
from gradscope.recompute.trusted.tensors import array_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from gradscope.settings import Settings
    from gradscope.trial.arms import Arm, Context

    Floats = NDArray[np.float64]

HEARTBEAT: Final = 10
"""Gradient steps between two signs of life."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """What one training showed; [gradient steps] each, 0..1, outside the slice's own columns."""

    zeros: Floats
    """Of all layers."""
    layers: Mapping[str, Floats]
    losses: Floats
    """Of values or critics."""
    first_bad: int | None = None
    """First gradient step with a loss that is not finite, from 1."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What every training of a trial shares."""

    num_updates: int
    batch_size: int
    settings: Settings


def curve(arm: Arm, context: Context, plan: Plan, seed: int, told: Callable[[int], None]) -> Curve:
    """Train on and watch.

    Args:
        arm: the training, with its remedy in it.
        context: where its rows come from.
        plan: how long.
        seed: of batches and noise: the same batches for the same seed, whatever the remedy.
        told: called with the number of gradient steps done.

    Raises:
        UsageError: the user's code failed.
    """
    trainee, drawn = arm.trainee, draws(seed)
    zeros = ColumnZeros(tolerance=plan.settings.zero_tolerance, modules=trainee.modules)
    wanted = [name for name in trainee.layers if plan.settings.wants_layer(name)]
    losses: list[float] = []
    with trainee.session():
        portions = context.feed.portions(arm, drawn, plan.num_updates, plan.batch_size)
        for number, portion in enumerate(portions):
            found = trainee.update(portion.batch, drawn, num_calls=portion.num_calls)
            zeros.add({name: array_of(each) for name, each in found.by_layer.items()}, wanted)
            losses.append(float("nan") if found.loss is None else float(found.loss))
            if (number + 1) % HEARTBEAT == 0 or number + 1 == plan.num_updates:
                told(number + 1)
    own = {} if isinstance(context.own, str) else context.own
    return Curve(
        zeros=zeros.outside(_complete(zeros, plan.num_updates), own),
        layers={name: zeros.outside([name], own) for name in _complete(zeros, plan.num_updates)},
        losses=np.array(losses),
        first_bad=next((at + 1 for at, loss in enumerate(losses) if not math.isfinite(loss)), None),
        note=arm.note,
    )


def _complete(zeros: ColumnZeros, num_updates: int) -> Sequence[str]:
    """Layers that got a gradient in every update."""
    return [name for name, layer in zeros.layers.items() if len(layer.zeros) == num_updates]
