"""Do two kinds of series change together? Chance by shifting the one activity series in a circle.

Series are [layers, points] or [points], evenly spaced in time, finite. All layers see the same shifted
activity, so whatever the layers share among themselves is kept (Westfall and Young 1993, step-down).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Integers: TypeAlias = NDArray[np.int64]

MIN_STEP_SHARE: Final = 0.3
"""Share of what a straight line leaves over that one change of level must explain to be an onset."""
BAND_DEVIATIONS: Final = 3.0
"""Half-width of the band a series keeps at first, in robust standard deviations."""
BAND_SHARE: Final = 0.005
"""Least half-width of that band, as a share of the later change of level."""
MEDIAN_POINTS: Final = 5
SLACK_POINTS: Final = MEDIAN_POINTS // 2
"""By which the running median may move an onset forward."""
NO_ONSET: Final = -1
_MAD_TO_DEVIATION: Final = 1.4826
_ROUNDING: Final = 1e-9


def detrended(series: Floats, degree: int = 1) -> Floats:
    """Least squares residuals from a polynomial in time, [..., points]; exactly 0 for such a curve.

    Args:
        series: [..., points].
        degree: 1 for a straight line, 2 for a parabola.
    """
    curves = _curves(series.shape[-1], degree)
    residual = series - (series @ curves) @ curves.T
    size = np.abs(series).max(axis=-1, keepdims=True, initial=0)
    return np.where(np.abs(residual).max(axis=-1, keepdims=True, initial=0) > _ROUNDING * size, residual, 0)


def shifted_correlations(activity: Floats, layers: Floats) -> Floats:
    """Pearson's r of each layer with the activity shifted by 0, 1, ... points in a circle, [layers, shifts].

    Args:
        activity: [points], mean 0.
        layers: [layers, points], mean 0; a row of zeros has r = 0.
    """
    num_points = len(activity)
    product = np.fft.rfft(layers, axis=1) * np.conj(np.fft.rfft(activity))
    size = np.sqrt((activity @ activity) * np.einsum("ij,ij->i", layers, layers))
    sums = np.fft.irfft(product, num_points, axis=1)
    return sums / np.where(size > 0, size, 1)[:, None]


def onset(series: Floats, *, rising: bool = False) -> int:
    """Point at which a series leaves the level it had at first, for its one lasting change of level.

    ``rising``: only upwards; what lies below the first level counts as still on it. Flat inputs that come
    alive take their own zeros away, which is no sign of a fault.

    The change is the step that, beside a straight line, explains most; it must explain at least 30 % of
    what the line alone leaves over. The first level is the median up to half-way to the change, its
    band three robust deviations of the running median of 5 points, which keeps edges. The onset is
    the first point after that median was last seen in the band.

    Returns:
        The point, or NO_ONSET for noise, a straight line, or a constant.
    """
    change = _step_beside_trend(series)
    if change is None:
        return NO_ONSET
    smooth = _running_median(series)
    start = smooth[: max(change // 2, 1)]
    level = np.median(start)
    jump = np.median(smooth[change:]) - level
    if rising and jump <= 0:
        return NO_ONSET
    spread = _MAD_TO_DEVIATION * np.median(np.abs(start - level))
    away = smooth[:change] - level
    inside = (away if rising else np.abs(away)) <= max(BAND_DEVIATIONS * spread, BAND_SHARE * abs(jump))
    return int(np.flatnonzero(inside)[-1]) + 1 if inside.any() else NO_ONSET


def onset_closeness(activity: int, layers: Integers, num_points: int) -> Floats:
    """Minus the points by which each layer's onset follows the activity's, for every shift, [layers, shifts].

    -inf for a layer without onset, one that comes before the activity's by more than the running median
    can blur, or where the activity has none.
    """
    shifted = (activity + np.arange(num_points)) % num_points
    behind = (layers[:, None] - shifted).astype(np.float64)
    unknown = (layers[:, None] == NO_ONSET) | (activity == NO_ONSET) | (behind < -SLACK_POINTS)
    return np.where(unknown, -np.inf, -np.abs(behind))


def chances(statistic: Floats) -> tuple[Floats, Floats]:
    """p-value of each layer, alone and adjusted for all layers, from [layers, shifts] with shift 0 observed.

    Alone: the share of shifts that do at least as well. Adjusted: step-down maximum over layers; the
    best layer against the best of all at every shift, the next against the best of the others, ...
    A statistic of -inf is never better than chance: p = 1.
    """
    observed = statistic[:, 0]
    slack = _ROUNDING * np.abs(np.where(np.isfinite(observed), observed, 0))
    reached = (observed - slack)[:, None]
    alone = (statistic >= reached).mean(axis=1)
    order = np.argsort(-observed, kind="stable")
    best_of_rest = np.maximum.accumulate(statistic[order][::-1], axis=0)[::-1]
    adjusted = np.empty(len(observed))
    adjusted[order] = np.maximum.accumulate((best_of_rest >= reached[order]).mean(axis=1))
    return alone, adjusted


def level_change(series: Floats) -> int | None:
    """First point after the one change of level that leaves least squares; None for a constant."""
    if len(series) < 2 or series.max() == series.min():  # noqa: PLR2004 - a change needs two points
        return None
    centred = series - series.mean()
    sums = np.cumsum(centred)[:-1]
    before = np.arange(1, len(series))
    return int(np.argmax(sums**2 / (before * (len(series) - before)))) + 1


def effective_points(one: Floats, other: Floats) -> float:
    """Independent pairs: n / (1 + 2 sum r_one(k) r_other(k)), k up to n / 4 (Pyper and Peterman 1998)."""
    num_points = len(one)
    lags = np.arange(1, num_points // 4 + 1)
    product = _autocorrelation(one)[lags] * _autocorrelation(other)[lags]
    return float(np.clip(num_points / max(1 + 2 * product.sum(), 1e-3), 1, num_points))


def _autocorrelation(series: Floats) -> Floats:
    centred = series - series.mean()
    size = 2 * len(series)
    spectrum = np.abs(np.fft.rfft(centred, size)) ** 2
    covariance = np.fft.irfft(spectrum, size)[: len(series)]
    correlation: Floats = covariance / covariance[0] if covariance[0] > 0 else np.zeros(len(series))
    return correlation


def _step_beside_trend(series: Floats) -> int | None:
    left = detrended(series)
    unexplained = left @ left
    places, steps = _steps(len(series))
    if not len(places) or unexplained == 0:
        return None
    gains = (steps @ left) ** 2
    best = int(gains.argmax())
    return int(places[best]) if gains[best] >= MIN_STEP_SHARE * unexplained else None


@lru_cache(maxsize=2)
def _steps(num_points: int) -> tuple[Integers, Floats]:
    """Every place of a step but near the ends, and the detrended steps of length 1, [places, points]."""
    margin = max(3, num_points // 20)
    places = np.arange(margin, num_points - margin + 1)
    steps = detrended((np.arange(num_points) >= places[:, None]).astype(np.float64))
    return places, steps / np.sqrt(np.einsum("ij,ij->i", steps, steps))[:, None]


def _running_median(series: Floats) -> Floats:
    padded = np.pad(series, MEDIAN_POINTS // 2, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, MEDIAN_POINTS)
    return np.asarray(np.median(windows, axis=1))


@lru_cache(maxsize=4)
def _curves(num_points: int, degree: int) -> Floats:
    """Orthonormal polynomials in time, [points, degree + 1]."""
    time = np.linspace(-1, 1, num_points)
    return np.linalg.qr(np.polynomial.legendre.legvander(time, min(degree, max(num_points - 1, 0))))[0]
