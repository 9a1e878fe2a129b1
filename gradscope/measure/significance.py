"""Chance: p-values of rows that depend on each other, and of many at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Integers: TypeAlias = NDArray[np.int64]

WINDOW_TAUS: Final = 5
"""Autocorrelations are summed up to the first lag of at least 5 autocorrelation times (Sokal 1997)."""
_MAX_TERMS: Final = 100


def holm(p_values: NDArray[np.float64]) -> Floats:
    """Holm's step-down adjustment over all finite p-values of an array of any shape; NaN stays NaN.

    Sorted rising, ``p_(i)`` of m becomes ``max_{j <= i} min(1, (m - j + 1) p_(j))`` (Holm 1979).
    """
    flat = p_values.ravel()
    known = np.flatnonzero(np.isfinite(flat))
    order = known[np.argsort(flat[known], kind="stable")]
    adjusted = np.full(flat.shape, np.nan)
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, factors * flat[order]))
    return adjusted.reshape(p_values.shape)


def ks_p_value(ks: Floats, num_rows: tuple[Integers, Integers], times: tuple[Floats, Floats]) -> Floats:
    """Kolmogorov's limit with Stephens' correction, on the number of independent rows of each side.

    ``Q((sqrt(n) + 0.12 + 0.11 / sqrt(n)) D)``, ``n = ab / (a + b)``, a and b the finite rows over their
    autocorrelation time. A constant side borrows the other's time; two constants count every row.

    Args:
        ks: D of each column.
        num_rows: finite rows of each column, of both sides.
        times: autocorrelation times in rows, of both sides; NaN for a constant.
    """
    time, time_current = times
    known = np.where(np.isnan(time), np.where(np.isnan(time_current), 1.0, time_current), time)
    known_current = np.where(np.isnan(time_current), known, time_current)
    a, b = num_rows[0] / known, num_rows[1] / known_current
    root = np.sqrt(a * b / np.where(a + b > 0, a + b, 1))
    return _kolmogorov((root + 0.12 + 0.11 / np.where(root > 0, root, 1)) * ks)


def _kolmogorov(value: Floats) -> Floats:
    """Q(x) = 2 sum (-1)^(k-1) exp(-2 k^2 x^2), the chance of a larger value; NaN stays NaN."""
    terms = np.arange(1, _MAX_TERMS + 1)[:, None]
    signs = np.where(terms % 2, 1.0, -1.0)
    series = 2 * (signs * np.exp(-2 * terms**2 * value**2)).sum(axis=0)
    # Below 0.2 the chance is 1 to 12 digits and the alternating series has not settled.
    return np.where(value < 0.2, 1.0, series.clip(0, 1))  # noqa: PLR2004


def min_ranks(rising: Floats, order: Integers) -> Floats:
    """Rank of each row in time order, ties sharing the lowest; NaN ranks in the middle."""
    places = np.arange(rising.shape[1])
    new = np.ones(rising.shape, dtype=bool)
    new[:, 1:] = rising[:, 1:] > rising[:, :-1]
    shared = np.maximum.accumulate(np.where(new, places, 0), axis=1).astype(np.float64)
    missing = np.isnan(rising)
    if missing.any():
        middle = (~missing).sum(axis=1, keepdims=True) / 2
        shared = np.where(missing, middle, shared)
    ranks = np.empty_like(shared)
    np.put_along_axis(ranks, order, shared, axis=1)
    return ranks


def correlation_time(series: Floats) -> Floats:
    """Integrated autocorrelation time, 1 + 2 sum rho_k, over Sokal's window; NaN for a constant."""
    num_rows = series.shape[1]
    if not num_rows:
        return np.full(len(series), np.nan)
    # Single precision is ample for a sum of correlations, and twice as fast.
    centred = (series - series.mean(axis=1, keepdims=True)).astype(np.float32)
    num_lags = num_rows // 2 + 1
    # Padding against wrap-around; a multiple of 256 has only small factors.
    padded = -(-(num_rows + num_lags) // 256) * 256
    spectrum = np.fft.rfft(centred, padded, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    covariance = np.fft.irfft(power, padded, axis=1)[:, :num_lags]
    varies = series.max(axis=1) > series.min(axis=1)
    variance = np.where(varies, covariance[:, 0], 1)
    times = 2 * np.cumsum(covariance / variance[:, None], axis=1) - 1
    enough = np.arange(num_lags) >= WINDOW_TAUS * times
    chosen = np.where(enough.any(axis=1), enough.argmax(axis=1), num_lags - 1)
    time = np.take_along_axis(times, chosen[:, None], axis=1)[:, 0].clip(1, num_rows)
    return np.where(varies, time, np.nan)
