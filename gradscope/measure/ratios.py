"""The squared ratio of Adam's two averages, per layer, row and column, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]
    Floats: TypeAlias = NDArray[np.float64]

PRECISE: Final = ("float32", "float64")
FLOOR: Final = 128
"""Multiples of the smallest number of a type below which rounding decides what an average is."""
CHUNK_ELEMENTS: Final = 1 << 18
"""Elements looked at together, so that big layers never exist twice."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ratios:
    """Natural logarithms of mean m^2 / v over the elements that tell: v normal, m not stuck.

    A mean of ratios and not a ratio of means: else the inputs with the largest gradients decide alone,
    and a layer looks silent when only they are.
    """

    num_known: int
    num_stuck: int
    """Elements trained once whose m has come so close to 0 that rounding keeps it there."""
    mean: float
    """NaN where no element tells."""
    rows: Floats
    """[out]; -inf where all that were trained are stuck, NaN where none was."""
    columns: Floats
    """[in], or [1] for one dimension."""
    stuck_at_most: float
    """Largest ln(m^2 / v) that a stuck element can have; NaN where none is."""


def ratios_of(average: Array, square: Array) -> Ratios:
    """Of m and v of one parameter, [out, in, ...], in float32 or float64."""
    shape = (average.shape[0] if average.ndim else 1, average.shape[1] if average.ndim > 1 else 1, -1)
    first, second = average.reshape(shape), square.reshape(shape)
    info = np.finfo(average.dtype)
    floor, smallest = FLOOR * float(info.smallest_subnormal), float(np.finfo(square.dtype).tiny)
    sums = [np.zeros((3, size)) for size in first.shape[:2]]
    least_square = np.inf
    step = max(1, CHUNK_ELEMENTS // max(first[0].size, 1))
    for start in range(0, first.shape[0], step):
        m, v = (each[start : start + step] for each in (first, second))
        trained = v >= smallest
        known = trained & (np.abs(m) >= floor)
        stuck = trained & ~known
        root = np.divide(m, np.sqrt(v), out=np.zeros_like(m), where=known)
        ratio = np.square(root, dtype=np.float64)
        least_square = min(least_square, float(v.min(where=stuck, initial=np.inf)))
        parts = (ratio, known, stuck) if stuck.any() else (ratio, known)
        for at, each in enumerate(parts):
            sums[0][at, start : start + step] += each.sum((1, 2))
            sums[1][at] += each.sum((0, 2))
    total = sums[0].sum(1)
    return Ratios(
        num_known=int(total[1]),
        num_stuck=int(total[2]),
        mean=float(_logarithm(total[:, None])[0]),
        rows=_logarithm(sums[0]),
        columns=_logarithm(sums[1]),
        stuck_at_most=float(np.log(floor**2 / least_square)) if total[2] else np.nan,
    )


def _logarithm(sums: Floats) -> Floats:
    total, known, stuck = sums
    mean = np.divide(total, known, out=np.zeros_like(total), where=known > 0)
    with np.errstate(divide="ignore"):
        return np.where((known > 0) | (stuck > 0), np.log(mean), np.nan)
