"""What goes together in a run: slice activity against zeros, over the densest series there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradscope.judge import association_verdict
from gradscope.measure import associations
from gradscope.records import ALL_LAYERS, AssociationReport, SeriesPoint
from gradscope.run.activity import activity as activity_of
from gradscope.run.recorded import why_not_timeline

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.records import SnapshotGradient, Timeline
    from gradscope.run.inputs import RunSlices
    from gradscope.run.join import Moment
    from gradscope.settings import Settings

    Floats = np.ndarray[Any, np.dtype[np.float64]]
    Integers = np.ndarray[Any, np.dtype[np.int64]]

NO_STEPS = "no snapshot has a step"
NO_ZEROS = "no gradient was seen at that step"
CONSTANT = "the activity never changes its level"


@dataclass(frozen=True, kw_only=True)
class Series:
    """Activity and zero fractions over steps; NaN where unknown."""

    source: str
    steps: Integers
    activity: Floats
    num_active: Floats
    fractions: Mapping[str, Floats]
    """By layer, and the pooled total under "*"."""
    unknown: str = "the recorder counted no activity in these rows"
    """Why an activity is NaN."""


def association_report(
    run: str,
    name: str,
    *,
    moments: Sequence[Moment],
    snapshots: Sequence[SnapshotGradient],
    timeline: Timeline | None,
    known: RunSlices,
    settings: Settings,
) -> AssociationReport:
    """Association of one slice with the zeros of every wanted layer, without interventions."""
    why_not = _why_not(timeline, name, known, settings) if timeline else None
    if timeline is not None and why_not is None:
        series = timeline_series(timeline, settings)
    else:
        series = _checkpoint_series(moments, snapshots, known, name)
    layers, change_step = associations(series.activity, series.fractions, series.steps)
    unknown = None if np.isfinite(series.activity).any() else series.unknown
    verdict, reason = association_verdict(name, layers, change_step, unknown=unknown, unused=why_not)
    return AssociationReport(
        slice=name,
        run=run,
        num_steps=len(series.steps),
        source=series.source,
        series=_points(series),
        activity_change_step=change_step,
        layers=layers,
        verdict=verdict,
        reason=reason,
        reasons={**({"source": why_not} if why_not else {}), **_missing(series, change_step)},
    )


def _why_not(timeline: Timeline, name: str, known: RunSlices, settings: Settings) -> str | None:
    if not np.isfinite(timeline.num_active).any():
        return f"{timeline.source.name} is not used: it counts no activity"
    return why_not_timeline(timeline, name, known, settings)


def _missing(series: Series, change_step: int | None) -> dict[str, str]:
    """Why there are nulls in the series, by key."""
    values = {
        "activity": (series.activity, series.unknown),
        "num_open_positions": (series.num_active, series.unknown),
        "zero_fraction": (series.fractions[ALL_LAYERS], NO_ZEROS),
    }
    reasons = {key: why for key, (each, why) in values.items() if not np.isfinite(each).all()}
    if change_step is None:
        reasons["activity_change_step"] = CONSTANT if np.isfinite(series.activity).any() else series.unknown
    return reasons


def timeline_series(timeline: Timeline, settings: Settings) -> Series:
    """One point a step: rows of one step (several optimizers, several updates) are averaged."""
    steps = np.unique(timeline.step)
    wanted = [layer for layer in timeline.layers if settings.wants_layer(layer.name)]
    fractions: dict[str, Floats] = {}
    zeros, elements = np.zeros(len(steps)), np.zeros(len(steps))
    for layer in wanted:
        num_zero = _mean_by_step(layer.num_zero, layer.step, steps)
        fractions[layer.name] = num_zero / layer.num_elements
        zeros += np.nan_to_num(num_zero)
        elements += np.where(np.isnan(num_zero), 0, layer.num_elements)
    # Only where all layers were seen: a total over other layers would change without any gradient changing.
    is_whole = (elements > 0) & (elements == elements.max(initial=0))
    pooled = np.divide(zeros, elements, out=np.full(len(steps), np.nan), where=is_whole)
    return Series(
        source="timeline",
        steps=steps,
        activity=_timeline_activity(timeline, steps),
        num_active=_mean_by_step(timeline.num_active, timeline.step, steps),
        fractions={ALL_LAYERS: pooled} | fractions,
    )


def _timeline_activity(timeline: Timeline, steps: Integers) -> Floats:
    """Share of active rows, of whichever optimizer's batch was seen at a step."""
    shares = [layer.num_active / layer.num_rows for layer in timeline.layers]
    at = [layer.step for layer in timeline.layers]
    return _mean_by_step(np.concatenate(shares), np.concatenate(at), steps) if shares else np.zeros(0)


def _mean_by_step(values: Floats, at: Integers, steps: Integers) -> Floats:
    place = np.searchsorted(steps, at)
    finite = np.isfinite(values)
    total = np.bincount(place[finite], values[finite], minlength=len(steps))
    number = np.bincount(place[finite], minlength=len(steps))
    mean: Floats = np.divide(total, number, out=np.full(len(steps), np.nan), where=number > 0)
    return mean


def _checkpoint_series(
    moments: Sequence[Moment], snapshots: Sequence[SnapshotGradient], known: RunSlices, name: str
) -> Series:
    pairs = zip(moments, snapshots, strict=True)
    dated = [(m, s) for m, s in pairs if s.step is not None and s.double_of is None]
    activities = [activity_of(moment, known, name) for moment, _ in dated]
    names = dict.fromkeys(layer.name for _, snapshot in dated for layer in snapshot.layers)
    by_name = [{layer.name: layer.zero_fraction for layer in snapshot.layers} for _, snapshot in dated]
    fractions = {name: _floats([layers.get(name) for layers in by_name]) for name in names}
    pooled = _floats([snapshot.zero_fraction for _, snapshot in dated])
    return Series(
        source="checkpoints",
        steps=np.array([snapshot.step for _, snapshot in dated], dtype=np.int64),
        activity=_floats([each.fraction for each in activities]),
        num_active=_floats([each.num_active for each in activities]),
        fractions={ALL_LAYERS: pooled} | fractions,
        unknown=next((why for each in activities for why in each.reasons.values()), NO_STEPS),
    )


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _points(series: Series) -> tuple[SeriesPoint, ...]:
    pooled = series.fractions[ALL_LAYERS]
    return tuple(
        SeriesPoint(
            step=int(step),
            activity=_known(series.activity[at]),
            num_open_positions=None if (held := _known(series.num_active[at])) is None else round(held),
            zero_fraction=_known(pooled[at]),
        )
        for at, step in enumerate(series.steps)
    )


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
