"""What ``compare`` shows of steps, layers, crossings and inputs: cells and order for screen and Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from gradscope.records import ALL_LAYERS, CompareVerdict, Status
from gradscope.records.percent import UNKNOWN, percent
from gradscope.show.rows import count, number, plural, points, safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradscope.records import (
        ComparedCrossing,
        ComparedLayer,
        ComparedRun,
        ComparedShift,
        ComparedSlice,
        ComparedSnapshot,
        ComparedStep,
        Comparison,
        CrossedAt,
        LayerPoint,
    )

Item = TypeVar("Item")
ABSENT: Final = "-"
"""What a table shows where a run has no snapshot, layer or slice."""
REFERENCE: Final = "first"
"""Where a shift would be that of the reference against itself."""
WORSE: Final = {
    CompareVerdict.A_WORSE: "A",
    CompareVerdict.B_WORSE: "B",
    CompareVerdict.SAME: "neither",
    CompareVerdict.NOT_COMPARABLE: UNKNOWN,
}
STEP_HEADS: Final = (
    *("step", "zeros A", "zeros B", "B - A", "status A", "status B", "worse", "norm A", "norm B"),
    *("clip A", "clip B", "positions A", "positions B"),
)
LAYER_HEADS: Final = (
    "layer",
    "zeros A",
    "zeros B",
    "B - A",
    "95 % interval",
    "status A",
    "status B",
    "parts at",
)
CROSSING_HEADS: Final = ("limit", "A at step", "B at step", "layer")
SHIFT_HEADS: Final = (
    *("step", "slice", "active A", "active B", "shift A", "shift B", "ratio A", "ratio B"),
    *("status A", "status B"),
)
STATUS_A: Final = 4
STATUS_B: Final = 5


def run_words(letter: str, run: ComparedRun) -> str:
    """Like "A = collapse: 5 snapshots, gradients stored (1 batch of 128)"."""
    head = f"{letter} = {safe(run.name)}: {plural(run.num_snapshots, 'snapshot')}"
    if not run.num_measured:
        return f"{head}, no gradients"
    some = "" if run.num_measured == run.num_snapshots else f" for {run.num_measured} of them"
    number_ = "/".join(map(str, run.num_batches)) or "unknown number"
    size = "/".join(map(str, run.batch_sizes)) or "unknown size"
    batches = "batch" if tuple(run.num_batches) == (1,) else "batches"
    return f"{head}, gradients {'/'.join(run.origins)}{some} ({number_} {batches} of {size})"


def step_cells(step: ComparedStep) -> tuple[str, ...]:
    """One step under ``STEP_HEADS``."""
    a, b = step.a, step.b
    return (
        _step(step),
        *(percent(each.zero_fraction) if each else ABSENT for each in (a, b)),
        points(step.difference) if a and b else "",
        *(each.status.value if each else ABSENT for each in (a, b)),
        WORSE.get(step.verdict, step.verdict.value) if a and b else "",
        *(number(each.norm) if each else ABSENT for each in (a, b)),
        *(_clip(each) for each in (a, b)),
        *(percent(each.position_activity) if each else ABSENT for each in (a, b)),
    )


def step_statuses(step: ComparedStep) -> tuple[Status | None, Status | None]:
    """Of A and of B; None where a run has no snapshot."""
    return (step.a.status if step.a else None), (step.b.status if step.b else None)


def shown_layers(found: Comparison) -> list[tuple[ComparedLayer, LayerPoint]]:
    """Layers that differ at the last step they have in common, those that decide and differ most first."""
    pairs = [(layer, last_point(layer)) for layer in found.layers]
    known = [(layer, point) for layer, point in pairs if point is not None]
    differing = [
        (layer, point)
        for layer, point in known
        if point.verdict not in {CompareVerdict.SAME, CompareVerdict.NOT_COMPARABLE}
    ]
    return sorted(differing, key=lambda pair: (not pair[0].decides, -abs(pair[1].difference or 0.0)))


def last_point(layer: ComparedLayer) -> LayerPoint | None:
    """Both runs at the last step at which the layer is known in both."""
    known = [point for point in layer.points if point.difference is not None]
    return known[-1] if known and layer.difference is not None else None


def layer_cells(layer: ComparedLayer, point: LayerPoint) -> tuple[str, ...]:
    """One layer under ``LAYER_HEADS``."""
    interval = " to ".join(points(each) for each in point.interval) if point.interval else UNKNOWN
    return (
        layer.name,
        percent(point.a.unexpected_zero_fraction),
        percent(point.b.unexpected_zero_fraction),
        points(point.difference),
        interval,
        point.a.status.value,
        point.b.status.value,
        count(layer.parted_step) if layer.parted_step is not None else ABSENT,
    )


def alone(found: Comparison) -> dict[str, list[str]]:
    """Layers of one run only, by its letter."""
    return {
        "A": [layer.name for layer in found.layers if layer.shape_b is None],
        "B": [layer.name for layer in found.layers if layer.shape_a is None],
    }


def num_common(found: Comparison) -> int:
    """Layers that both runs have."""
    return sum(layer.shape_a is not None and layer.shape_b is not None for layer in found.layers)


def shown_crossings(found: Comparison) -> list[ComparedCrossing]:
    """Of single layers, worst limit first, layers that decide first; milder limits of the same steps go."""
    deciding = {layer.name for layer in found.layers if layer.decides}
    seen: set[tuple[str, int | None, int | None, bool, bool]] = set()
    kept = []
    for each in found.crossings:
        steps = (each.a.step if each.a else None), (each.b.step if each.b else None)
        key = (each.layer, *steps, each.a is None, each.b is None)
        if each.layer != ALL_LAYERS and key not in seen:
            seen.add(key)
            kept.append(each)
    return sorted(
        kept, key=lambda each: (-Status(each.limit).rank, each.layer not in deciding, -_worst(each))
    )


def crossing_cells(found: ComparedCrossing) -> tuple[str, ...]:
    """One crossing under ``CROSSING_HEADS``."""
    return (
        found.limit,
        _crossed(found.a, found.reasons.get("a", UNKNOWN)),
        _crossed(found.b, found.reasons.get("b", UNKNOWN)),
        found.layer,
    )


def shift_cells(found: ComparedShift) -> tuple[str, ...]:
    """One slice at one step under ``SHIFT_HEADS``."""
    sides = (found.a, found.b)
    return (
        _shift_step(found),
        found.slice,
        *(percent(each.activity) if each else ABSENT for each in sides),
        *(_wasserstein(each) for each in sides),
        *(number(each.rms_ratio) if each else ABSENT for each in sides),
        *(_shift_status(each) for each in sides),
    )


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of the items, evenly taken, first and last among them."""
    number = min(most, len(items))
    places = {round(at * (len(items) - 1) / max(number - 1, 1)) for at in range(number)}
    return [items[at] for at in sorted(places)]


def _step(step: ComparedStep) -> str:
    if step.step is not None:
        return count(step.step)
    names = [
        count(each.step) if each.step is not None else safe(each.source) for each in (step.a, step.b) if each
    ]
    return " / ".join(dict.fromkeys(names))


def _shift_step(found: ComparedShift) -> str:
    steps = dict.fromkeys(each.step for each in (found.a, found.b) if each)
    return " / ".join(map(count, steps))


def _wasserstein(found: ComparedSlice | None) -> str:
    """Of the reference it would be 0 by definition."""
    if found is None:
        return ABSENT
    return REFERENCE if found.is_reference else number(found.wasserstein)


def _clip(snapshot: ComparedSnapshot | None) -> str:
    if snapshot is None:
        return ABSENT
    if snapshot.clip_coefficient is not None:
        return number(snapshot.clip_coefficient)
    return "none" if "does not clip" in snapshot.reasons.get("clip_coefficient", "") else UNKNOWN


def _crossed(at: CrossedAt | None, why: str) -> str:
    if at is None:
        return why
    return UNKNOWN if at.step is None else count(at.step)


def _worst(found: ComparedCrossing) -> float:
    return max((each.zero_fraction for each in (found.a, found.b) if each), default=0.0)


def _shift_status(found: ComparedSlice | None) -> str:
    if found is None:
        return ABSENT
    return REFERENCE if found.is_reference else found.status.value
