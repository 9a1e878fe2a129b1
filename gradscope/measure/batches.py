"""Zeros over several batches: sums, and how sure their mean is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from gradscope.records import ZeroAnatomy, ZeroCount

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE: Final = 0.95
ROUNDING: Final = 1e-12
"""Equal fractions differ by less: 0.1 + 0.2 - 0.3 must not open an interval."""


def summed(counts: Sequence[ZeroCount]) -> ZeroCount:
    """Counts of one layer over batches: zeros and kinds are summed, norm and max_abs are means.

    ``num_elements`` stays that of one gradient. Means are of the batches that have a finite value; None
    where no batch has.

    Raises:
        ValueError: no batch.
    """
    if not counts:
        raise ValueError("no batch to sum")
    kinds = vars(counts[0].anatomy)
    return ZeroCount(
        num_elements=counts[0].num_elements,
        num_zero=sum(each.num_zero for each in counts),
        num_exact_zero=sum(each.num_exact_zero for each in counts),
        num_nonfinite=sum(each.num_nonfinite for each in counts),
        norm=mean([each.norm for each in counts]),
        max_abs=mean([each.max_abs for each in counts]),
        anatomy=ZeroAnatomy(**{kind: sum(getattr(each.anatomy, kind) for each in counts) for kind in kinds}),
    )


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are known; None where none is, or where it is beyond float64."""
    known = [each for each in values if each is not None]
    result = math.fsum(each / len(known) for each in known) if known else math.nan
    return result if math.isfinite(result) else None


def fraction_interval(counts: Sequence[ZeroCount]) -> tuple[float, float] | None:
    """95 % interval of the mean zero fraction over batches, by Student's t, cut to 0..1.

    It speaks of the batches that could be drawn from the same data, on the same weights. None for one
    batch or no elements.
    """
    if len(counts) < 2 or not counts[0].num_elements:  # noqa: PLR2004 - one batch has no spread
        return None
    fractions = [each.num_zero / each.num_elements for each in counts]
    middle = math.fsum(fractions) / len(fractions)
    variance = math.fsum((each - middle) ** 2 for each in fractions) / (len(fractions) - 1)
    spread = math.sqrt(variance / len(fractions))
    if spread < ROUNDING:
        return middle, middle
    from scipy.special import stdtrit  # noqa: PLC0415  scipy.stats would take ten times as long to load

    half = float(stdtrit(len(fractions) - 1, (1 + CONFIDENCE) / 2)) * spread
    return max(0.0, middle - half), min(1.0, middle + half)
