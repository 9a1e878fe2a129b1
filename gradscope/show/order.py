"""What is shown and in which order: steps, crossings and layers, decided once for every renderer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from gradscope.records import ALL_LAYERS, Origin, Status
from gradscope.records.percent import UNKNOWN, percent
from gradscope.settings import SMALL_LAYER_SHARE
from gradscope.show.rows import count, number, safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gradscope.records import Crossing, LayerGradient, Report, SnapshotGradient


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """One line of the step table."""

    step: str
    activity: str
    zeros: str
    fraction: float | None
    norm: str
    clip: str
    status: Status
    first_layer: str
    file: str = ""
    """Where several snapshots claim the step: which file this one is."""


def run_names(report: Report) -> list[str]:
    """Runs in the order they appear."""
    return list(dict.fromkeys(snapshot.run for snapshot in report.snapshots))


def of_run(report: Report, run: str) -> list[SnapshotGradient]:
    """Snapshots of one run, in order."""
    return [snapshot for snapshot in report.snapshots if snapshot.run == run]


def step_rows(report: Report, run: str) -> list[StepRow]:
    """The step table of one run."""
    crossings: dict[int | None, list[Crossing]] = {}
    for each in layer_crossings(report, run):
        crossings.setdefault(each.step, []).append(each)
    claims = Counter(snapshot.step for snapshot in of_run(report, run))
    return [
        StepRow(
            step=count(snapshot.step) if snapshot.step is not None else _within(snapshot),
            activity=percent(snapshot.position_activity),
            zeros=percent(snapshot.zero_fraction),
            fraction=snapshot.zero_fraction,
            norm=number(snapshot.norm),
            clip=_clip(snapshot),
            status=snapshot.status,
            first_layer=_first_to_cross(crossings, snapshot),
            file=_within(snapshot) if snapshot.step is not None and claims[snapshot.step] > 1 else "",
        )
        for snapshot in of_run(report, run)
    ]


def _within(snapshot: SnapshotGradient) -> str:
    """The file's name within its run, whose own stands above the table."""
    return safe(snapshot.source.removeprefix(f"{snapshot.run}/"))


def _clip(snapshot: SnapshotGradient) -> str:
    if snapshot.clip_coefficient is not None:
        return number(snapshot.clip_coefficient)
    return "none" if "does not clip" in snapshot.reasons.get("clip_coefficient", "") else UNKNOWN


def _first_to_cross(crossings: Mapping[int | None, Sequence[Crossing]], snapshot: SnapshotGradient) -> str:
    """Of the layers that decide the status, the one that crossed the worst limit first in this snapshot."""
    # Two snapshots may share a step: a crossing is the one's whose layer is that bad.
    bad = {layer.name: layer.status.rank for layer in heavy_layers(snapshot)}
    here = [
        each
        for each in crossings.get(snapshot.step, ())
        if each.step is not None
        if bad.get(each.layer, -1) >= Status(each.limit).rank
    ]
    worst = max(here, key=lambda each: (Status(each.limit).rank, each.zero_fraction), default=None)
    return worst.layer if worst else ""


def layer_crossings(report: Report, run: str) -> list[Crossing]:
    """Crossings of single layers, the pooled total left out: worst limit first, layers that count first."""
    found = [each for each in report.crossings if each.run == run and each.layer != ALL_LAYERS]
    heavy = heavy_names(report, run)
    return sorted(
        found,
        key=lambda each: (
            -Status(each.limit).rank,
            each.layer not in heavy,
            each.step or 0,
            -each.zero_fraction,
        ),
    )


def heavy_names(report: Report, run: str) -> set[str]:
    """Names of the layers that decide the status of any snapshot of the run."""
    return {layer.name for snapshot in of_run(report, run) for layer in heavy_layers(snapshot)}


def heavy_layers(snapshot: SnapshotGradient) -> list[LayerGradient]:
    """Measured layers large enough to decide the snapshot's status; all where none is."""
    measured = [layer for layer in snapshot.layers if layer.num_zero is not None]
    least = SMALL_LAYER_SHARE * snapshot.num_elements
    return [layer for layer in measured if layer.num_elements >= least] or measured


def limit_of(report: Report, layer: str, limit: str) -> float | None:
    """The value of a limit for one layer: the last glob of its own that fits, else the general one."""
    value = report.limits.get(limit)
    for glob, own in report.layer_limits.items():
        if fnmatchcase(layer, glob):
            value = own.get(limit, value)
    return value


def nonfinite_words(snapshot: SnapshotGradient) -> str:
    """How many gradient values are NaN or infinite, like "20 of 40 ..."; empty where none is."""
    if not snapshot.num_nonfinite:
        return ""
    total = snapshot.num_elements * (snapshot.num_batches or 1)
    return f"{count(snapshot.num_nonfinite)} of {count(total)} gradient values are NaN or infinite"


def step_words(snapshot: SnapshotGradient) -> str:
    """The step, like "step 6,000", or the file where the step is not known."""
    return f"step {count(snapshot.step)}" if snapshot.step is not None else _within(snapshot)


def worst_snapshot(report: Report, run: str) -> SnapshotGradient | None:
    """The snapshot with the worst status, then the most zeros; None without gradients."""
    measured = [each for each in of_run(report, run) if each.zero_fraction is not None]
    return max(measured, key=lambda each: (each.status.rank, each.zero_fraction or 0), default=None)


def unexpected(layer: LayerGradient) -> float | None:
    """Share of zeros without the expected ones; None where unknown."""
    if not layer.zero_fraction or layer.anatomy is None or not layer.num_zero:
        return layer.zero_fraction
    return layer.zero_fraction * (1 - layer.anatomy.expected / layer.num_zero)


def worst_layers(layers: Iterable[LayerGradient], most: int) -> list[LayerGradient]:
    """Layers with a gradient, worst status first, then most unexpected zeros; none that are free of zeros."""
    known = [layer for layer in layers if layer.origin is not Origin.NONE and layer.num_zero]
    return sorted(known, key=lambda layer: (-layer.status.rank, -(unexpected(layer) or 0)))[:most]


def origin_words(snapshots: Sequence[SnapshotGradient]) -> str:
    """One line on where gradients come from and which batch they are of."""
    known = [each for each in snapshots if each.zero_fraction is not None]
    if not known:
        has_evidence = any(each.origin is Origin.OPTIMIZER for each in snapshots)
        return "no gradients asked for, only what optimizers remember" if has_evidence else "no gradients"
    first = known[0]
    size = f"batch size {first.batch_size}" if first.batch_size else "batch size unknown"
    batches = (
        f"{first.num_batches} batch" + ("" if first.num_batches == 1 else "es") if first.num_batches else ""
    )
    seed = f"seed {first.seed}" if first.seed is not None else ""
    origins = "/".join(dict.fromkeys(each.origin.value for each in known))
    some = "" if len(known) == len(snapshots) else f" for {len(known)} of {len(snapshots)} snapshots"
    return f"gradients {origins}{some} ({', '.join(part for part in (batches, size, seed) if part)})"
