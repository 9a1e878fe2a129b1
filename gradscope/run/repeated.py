"""Zeros of one moment that are none when its batches are repeated in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.errors import UsageError
from gradscope.run.recomputed import recomputation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gradscope.run.given import Means
    from gradscope.run.join import Moment

MOST_LOST: Final = 1e-3
"""Sixteen times float16's smallest normal number: a larger value was lost to something else."""
CHANGED: Final = "the same batch gave other layers when it was repeated"


def lost_fractions(moment: Moment, means: Means, layers: Sequence[str]) -> Mapping[str, float] | str:
    """By layer: share of the elements, over all batches, that a type with less range made zero.

    0 where nothing narrower than float32 was used: what float64 shows beside that is a slope that float32
    rounds to 0 (saturation), or a sum that overflowed.

    Args:
        moment: with its checkpoint and what it was trained on.
        means: settings and what recomputing may use.
        layers: names, those with zeros.

    Returns:
        The shares, 0..1; or why they are not known.

    Raises:
        UnreadableFile: a file changed or broke since it was opened.
    """
    found = recomputation(moment, means)
    if isinstance(found, str):
        return found
    from gradscope.recompute.float64 import Seen  # noqa: PLC0415  torch, lazily

    parts: dict[str, list[float]] = {name: [] for name in layers}
    seen = Seen()
    try:
        for before, after in _pairs(found, seen):
            if not parts.keys() <= before.keys() & after.keys():
                return CHANGED
            for name, shares in parts.items():
                shares.append(_lost(before[name], after[name], means.settings.zero_tolerance))
    except UsageError as error:
        # Code of the user's that fixes its types cannot be run in others.
        return str(error)
    return {name: sum(shares) / len(shares) if seen.is_narrow else 0.0 for name, shares in parts.items()}


def _pairs(found: Any, seen: Any) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Gradients of each batch, as it is and in float64."""
    from gradscope.recompute.float64 import in_float64  # noqa: PLC0415  torch, lazily

    for one, other in zip(found.batches(), in_float64(found.batches(), seen), strict=True):
        yield one.gradients, other.gradients


def _lost(gradient: Any, repeated: Any, tolerance: float) -> float:
    """Share of elements that are zero and whose float64 value is not, and small enough to be lost."""
    size = np.abs(repeated)
    return float(np.mean((np.abs(gradient) <= tolerance) & (size > tolerance) & (size < MOST_LOST)))
