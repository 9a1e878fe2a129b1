"""How far two samples of many columns are apart; every function works on all columns at once.

Arrays are [columns, rows], float64. Non-finite values have become NaN and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from gradscope.measure.significance import correlation_time, ks_p_value, min_ranks
from gradscope.measure.stability import stability_index

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Integers: TypeAlias = NDArray[np.int64]

_EXTREME: Final = 1e100
"""Beyond this, or below its inverse, squares leave float64."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One window's columns, sorted once."""

    rising: Floats
    """[columns, rows], each row of the array rising, NaN last."""
    num_finite: Integers
    correlation_time: Floats
    """Rows between independent observations, at least 1; NaN for a constant column."""


@dataclass(frozen=True, kw_only=True)
class Distances:
    """Of each column; NaN where either side has no finite value."""

    wasserstein: Floats
    ks: Floats
    psi: Floats
    p_value: Floats
    pooled: NDArray[np.bool_]
    """Whether ``wasserstein`` is in pooled standard deviations: the reference is constant."""


def sample(values: NDArray[Any]) -> Sample:
    """Sort the columns of a window, [rows, columns] in order of collection, and time their memory."""
    columns = np.ascontiguousarray(values.T, dtype=np.float64)
    finite = np.isfinite(columns)
    columns = columns if finite.all() else np.where(finite, columns, np.nan)
    order = np.argsort(columns, axis=1)
    rising = np.take_along_axis(columns, order, axis=1)
    return Sample(
        rising=rising,
        num_finite=finite.sum(axis=1),
        correlation_time=correlation_time(min_ranks(rising, order)),
    )


def distances(reference: Sample, current: Sample, resting: Floats) -> Distances:
    """Distances of two samples of the same columns, formulas at the functions below."""
    half, ks = _half_wasserstein_and_ks(reference, current)
    wasserstein, pooled = _in_deviations(half, reference, current)
    return Distances(
        wasserstein=wasserstein,
        ks=ks,
        psi=stability_index(reference.rising, current.rising, resting),
        p_value=ks_p_value(
            ks,
            (reference.num_finite, current.num_finite),
            (reference.correlation_time, current.correlation_time),
        ),
        pooled=pooled,
    )


def root_mean_square(values: NDArray[Any]) -> Floats:
    """Rms of each column of [rows, columns], of finite values; NaN where there is none."""
    finite = np.isfinite(values)
    known = np.where(finite, values, 0).astype(np.float64)
    largest = np.abs(known).max(axis=0, initial=0)
    scaled = known / np.where(largest > 0, largest, 1)
    number = finite.sum(axis=0)
    squares = np.einsum("ij,ij->j", scaled, scaled)
    mean = np.divide(squares, number, out=np.full(len(number), np.nan), where=number > 0)
    return np.asarray(largest * np.sqrt(mean))


def no_distances(of: Sample) -> Distances:
    """Distances of a sample to itself: 0, and nothing to test."""
    zero = np.where(of.num_finite > 0, 0.0, np.nan)
    nothing = np.full(len(zero), np.nan)
    return Distances(wasserstein=zero, ks=zero, psi=zero, p_value=nothing, pooled=np.zeros(len(zero), bool))


def _half_wasserstein_and_ks(reference: Sample, current: Sample) -> tuple[Floats, Floats]:
    """Half of W1 = integral of |F - G|, in the columns' own units, and KS D = max |F - G|."""
    num_columns, num_reference = reference.rising.shape
    half, ks = np.full(num_columns, np.nan), np.full(num_columns, np.nan)
    whole = (reference.num_finite == num_reference) & (current.num_finite == current.rising.shape[1])
    if whole.any() and num_reference and current.rising.shape[1]:
        half[whole], ks[whole] = _between(reference.rising[whole], current.rising[whole])
    for column in np.flatnonzero(~whole & (reference.num_finite > 0) & (current.num_finite > 0)):
        one = reference.rising[column, None, : reference.num_finite[column]]
        other = current.rising[column, None, : current.num_finite[column]]
        half[column], ks[column] = (float(each[0]) for each in _between(one, other))
    return half, ks


def _between(one: Floats, other: Floats) -> tuple[Floats, Floats]:
    both = np.concatenate([one, other], axis=1)
    # Two rising runs: the stable sort merges them in linear time.
    order = np.argsort(both, axis=1, kind="stable")
    merged = np.take_along_axis(both, order, axis=1)
    num_one, num_other = one.shape[1], other.shape[1]
    # F - G = k / n - (place - k) / m, times n m: whole numbers, so nothing is lost.
    gap = np.cumsum(order[:, :-1] < num_one, axis=1, dtype=np.float64)
    gap *= num_one + num_other
    gap -= np.arange(1, both.shape[1]) * num_one
    np.abs(gap, out=gap)
    # Half the width: the difference of two huge values of opposite sign overflows.
    merged /= 2
    width = np.diff(merged, axis=1)
    half = np.einsum("ij,ij->i", gap / (num_one * num_other), width)
    # Between equal values the step functions have not yet arrived.
    gap *= width > 0
    return half, gap.max(axis=1, initial=0) / (num_one * num_other)


def _in_deviations(half: Floats, reference: Sample, current: Sample) -> tuple[Floats, NDArray[np.bool_]]:
    """W1 over the reference's standard deviation, or where it is constant over the pooled one.

    Pooled is of the half-and-half mixture, so that the number of rows does not matter:
    ``s^2 = (s_r^2 + s_c^2) / 2 + (m_r - m_c)^2 / 4``. Two constants: 0 where equal, else 2.
    """
    scale = _scale(reference, current)
    mean, deviation = _moments(reference, scale)
    mean_current, deviation_current = _moments(current, scale)
    mixed = np.sqrt((deviation**2 + deviation_current**2) / 2 + (mean - mean_current) ** 2 / 4)
    pooled = deviation == 0
    unit = np.where(pooled, mixed, deviation)
    result = np.divide(
        np.ldexp(half, 1 - scale), unit, out=np.where(np.isnan(half), np.nan, 0.0), where=unit > 0
    )
    return result, pooled & (mixed > 0)


def _scale(one: Sample, other: Sample) -> Integers:
    """Power of two that brings a column of extreme size near 1; 0 for all others."""
    largest = np.zeros(len(one.rising))
    for each in (one, other):
        if each.rising.shape[1]:
            largest = np.fmax(largest, np.fmax.reduce(np.abs(each.rising), axis=1))
    extreme = (largest > _EXTREME) | ((largest > 0) & (largest < 1 / _EXTREME))
    return np.where(extreme, np.frexp(largest)[1], 0).astype(np.int64)


def _moments(of: Sample, scale: Integers) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each column; exactly 0 deviation for a constant one."""
    values = np.ldexp(of.rising, -scale[:, None]) if scale.any() else of.rising
    number = np.where(of.num_finite > 0, of.num_finite, 1)
    mean = np.nansum(values, axis=1) / number
    away = np.nan_to_num(values - mean[:, None])
    deviation = np.sqrt(np.einsum("ij,ij->i", away, away) / number)
    return mean, np.where(_is_constant(of), 0.0, deviation)


def _is_constant(of: Sample) -> NDArray[np.bool_]:
    if not of.rising.shape[1]:
        return np.ones(len(of.rising), dtype=bool)
    last = np.take_along_axis(of.rising, (of.num_finite - 1).clip(min=0)[:, None], axis=1)[:, 0]
    return np.asarray((of.rising[:, 0] == last) | (of.num_finite == 0))
