"""Slice activity against zero fractions over steps: what goes together, never what causes what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from gradscope.measure.coincidence import (
    NO_ONSET,
    chances,
    detrended,
    effective_points,
    level_change,
    onset,
    onset_closeness,
    shifted_correlations,
)
from gradscope.measure.correlation import pearson, spearman
from gradscope.records import ALL_LAYERS, Association
from gradscope.settings import SIGNIFICANCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Integers: TypeAlias = NDArray[np.int64]

MAX_POINTS: Final = 500
"""Longer timelines are averaged over equal blocks of rows down to this many points."""
NUM_TESTS: Final = 2
"""Levels and onsets; a layer's better p-value is doubled (Bonferroni)."""
TREND: Final = 2
"""Degree of the trend taken out. After 1, two parabolas in noise seem associated in 27 % of runs, now 2 %."""
ASSOCIATED: Final = "associated"
NOT_ASSOCIATED: Final = "not associated"
TOO_FEW: Final = "too few steps"
CONSTANT_ACTIVITY: Final = "the activity never changes"
NEVER_KNOWN: Final = "no step at which both the activity and the zeros are known"
CONSTANT_ZEROS: Final = "the layer's zeros never change"


@dataclass(frozen=True, kw_only=True)
class _Series:
    """Rows known for the activity and for all layers that are tested together."""

    steps: Integers
    activity: Floats
    fractions: Mapping[str, Floats]

    @property
    def block(self) -> int:
        """Rows averaged into one point."""
        return -(-len(self.steps) // MAX_POINTS)


@dataclass(frozen=True, kw_only=True)
class _Tested:
    """One layer's test, before the record."""

    p_value: float
    p_value_adjusted: float
    lag: int
    effective: float
    onset: int | None
    """Step; None where there is none."""


def associations(
    activity: Floats, fractions: Mapping[str, Floats], steps: Integers
) -> tuple[tuple[Association, ...], int | None]:
    """Association of each layer's zeros with the activity, and the step of the activity's own change.

    Two questions per layer, each answered by shifting the one activity series in a circle, jointly for
    all layers, with the step-down maximum over layers (Westfall-Young); the better answer is doubled. The
    pooled total "*" is asked by itself: onsets where there are any, else levels:

    - levels: r of both series after a parabola is taken out of each, where one of them has no onset;
    - onsets: how soon after the activity the layer's zeros leave the level they had at first. It sees
      zeros that answer in several plateaus, whose largest comes late.

    Both are one-sided: only zeros that rise with the activity count. The columns of a slice that was flat
    lose their zeros by construction when it comes alive, in every healthy run.

    ``pearson`` and ``spearman`` are of the series as they are, trend included; the p-values are not.
    Too few steps for any p-value below 0.05 is "too few steps".

    Args:
        activity: [steps], 0..1; NaN where unknown.
        fractions: layer name to zero fractions, [steps]; NaN where unknown. Rows unknown to the activity
            or to any tested layer are left out for all; layers with less than half of the fullest
            layer's rows are not tested.
        steps: rising, [steps].

    Returns:
        One record per layer, in the order given; the step at which the activity's level changes most,
        None where it never does.
    """
    series, sparse = _together(activity, fractions, steps)
    known = np.isfinite(activity)
    change = level_change(activity[known])
    change_step = None if change is None else int(steps[known][change])
    tested = _tested(series) if _why_not(series) is None else {}
    records = {
        name: _association(name, values, series, tested.get(name))
        for name, values in series.fractions.items()
    }
    return tuple(records.get(name) or _too_sparse(name, sparse[name]) for name in fractions), change_step


def _together(
    activity: Floats, fractions: Mapping[str, Floats], steps: Integers
) -> tuple[_Series, dict[str, int]]:
    """Rows all tested layers share, and the row counts of the layers left out."""
    usable = {name: np.isfinite(values) & np.isfinite(activity) for name, values in fractions.items()}
    number = {name: int(rows.sum()) for name, rows in usable.items()}
    fullest = max(number.values(), default=0)
    kept = [name for name in fractions if number[name] and 2 * number[name] >= fullest]
    rows = np.isfinite(activity)
    for name in kept:
        rows = rows & usable[name]
    values = {name: np.asarray(fractions[name], dtype=np.float64)[rows] for name in kept}
    sparse = {name: count for name, count in number.items() if name not in values}
    return _Series(steps=steps[rows], activity=activity[rows].astype(np.float64), fractions=values), sparse


def _why_not(series: _Series) -> tuple[str, str] | None:
    """Verdict and reason where nothing can be tested."""
    number = len(series.steps)
    least = int(NUM_TESTS / SIGNIFICANCE) + 1
    if number < least:
        return TOO_FEW, f"{number} steps; no corrected p-value can fall below {SIGNIFICANCE:g} under {least}"
    if series.activity.max() == series.activity.min():
        return NOT_ASSOCIATED, CONSTANT_ACTIVITY
    return None


def _tested(series: _Series) -> dict[str, _Tested]:
    """Both tests of all layers at once, on points of ``series.block`` rows."""
    names = list(series.fractions)
    activity = _points(series.activity, series.block)
    layers = np.stack([_points(series.fractions[name], series.block) for name in names])
    residual, residuals = detrended(activity, TREND), detrended(layers, TREND)
    correlations = shifted_correlations(residual, residuals)
    own_onset = onset(activity)
    onsets = np.array([onset(layer, rising=True) for layer in layers])
    # A layer that never leaves its line is not better than chance at any shift.
    varies = residuals.any(axis=1, keepdims=True)
    starts = onset_closeness(own_onset, onsets, len(activity))
    # Where both change once and for good, only when they do counts: levels of two such curves agree by
    # chance far too often (measured: 29 % false alarms among 20 layers with independent steps).
    changes_once = np.isfinite(starts).any(axis=1, keepdims=True)
    levels = np.where(varies & ~changes_once, correlations, -np.inf)
    p_value, adjusted = _chances(names, levels, starts)
    lags = _lags(correlations) * series.block
    return {
        name: _Tested(
            p_value=float(p_value[place]),
            p_value_adjusted=float(adjusted[place]),
            lag=int(lags[place]),
            effective=effective_points(residual, residuals[place]),
            onset=None if onsets[place] == NO_ONSET else int(series.steps[onsets[place] * series.block]),
        )
        for place, name in enumerate(names)
    }


def _chances(names: list[str], levels: Floats, starts: Floats) -> tuple[Floats, Floats]:
    """p-values alone and adjusted; the pooled total stands for itself, layers are corrected for layers."""
    alone, adjusted = np.ones(len(names)), np.ones(len(names))
    layers = np.array([name != ALL_LAYERS for name in names])
    if layers.any():
        tests = np.minimum(chances(levels[layers]), chances(starts[layers]))
        alone[layers], adjusted[layers] = np.minimum(1, NUM_TESTS * tests)
    if not layers.all():
        total = np.where(np.isfinite(levels[~layers]), levels[~layers], starts[~layers])
        alone[~layers] = adjusted[~layers] = chances(total)[0]
    return alone, adjusted


def _points(values: Floats, block: int) -> Floats:
    """Means over blocks of rows; what is left at the end makes a shorter last block."""
    starts = np.arange(0, len(values), block)
    return np.add.reduceat(values, starts) / np.diff(starts, append=len(values))


def _lags(correlations: Floats) -> Integers:
    """Points by which the layer follows the activity where |r| is largest, at most a quarter of the run."""
    num_points = correlations.shape[1]
    reach = num_points // 4
    lags = np.arange(-reach, reach + 1)
    best: Integers = lags[np.abs(correlations[:, lags % num_points]).argmax(axis=1)]
    return best


def _association(name: str, values: Floats, series: _Series, tested: _Tested | None) -> Association:
    number = len(values)
    change = level_change(values)
    reasons: dict[str, str] = {} if change is not None else {"change_step": CONSTANT_ZEROS}
    change_step = None if change is None else int(series.steps[change])
    correlation = pearson(series.activity, values), spearman(series.activity, values)
    if correlation[0] is None:
        missing = CONSTANT_ZEROS if change is None else CONSTANT_ACTIVITY
        reasons |= dict.fromkeys(("pearson", "spearman"), missing)
    verdict, why = _verdict(change is not None, series, tested)
    reasons["verdict"] = why
    if tested is None or change is None:
        untested = ("p_value", "p_value_adjusted", "effective_num_steps", "lag")
        reasons |= dict.fromkeys(untested, why)
        tested = None
    return Association(
        name=name,
        num_steps=number,
        pearson=correlation[0],
        spearman=correlation[1],
        p_value=tested.p_value if tested else None,
        p_value_adjusted=tested.p_value_adjusted if tested else None,
        effective_num_steps=tested.effective * series.block if tested else None,
        lag=tested.lag if tested else None,
        change_step=change_step,
        verdict=verdict,
        reasons=reasons,
    )


def _verdict(changes: bool, series: _Series, tested: _Tested | None) -> tuple[str, str]:
    untestable = _why_not(series)
    if untestable is not None:
        return untestable
    if not changes or tested is None:
        return NOT_ASSOCIATED, CONSTANT_ZEROS
    averaged = f", rows averaged by {series.block}" if series.block > 1 else ""
    when = (
        f"; its zeros rise above their first level from step {tested.onset}"
        if tested.onset is not None
        else ""
    )
    chance = f"adjusted p = {tested.p_value_adjusted:.3g} after detrending{averaged}{when}"
    return (ASSOCIATED if tested.p_value_adjusted < SIGNIFICANCE else NOT_ASSOCIATED), chance


def _too_sparse(name: str, number: int) -> Association:
    why = f"{number} steps, less than half of what the fullest layer has" if number else NEVER_KNOWN
    nulls = "pearson spearman p_value p_value_adjusted effective_num_steps lag change_step verdict"
    return Association(
        name=name, num_steps=number, verdict=TOO_FEW, reasons=dict.fromkeys(nulls.split(), why)
    )
