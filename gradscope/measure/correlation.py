"""Pearson and Spearman of two series, without scipy."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]


def pearson(one: Floats, other: Floats) -> float | None:
    """Pearson's r, -1..1; None for a constant or less than two points."""
    if len(one) < 2 or one.max() == one.min() or other.max() == other.min():  # noqa: PLR2004
        return None
    a, b = one - one.mean(), other - other.mean()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))


def spearman(one: Floats, other: Floats) -> float | None:
    """Pearson's r of the ranks; None for a constant or less than two points."""
    return pearson(_rank(one), _rank(other))


def _rank(values: Floats) -> Floats:
    """Ranks, ties sharing their mean."""
    _, place, number = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(number)
    ranks: Floats = (ends - (number - 1) / 2)[place]
    return ranks
