"""Numbers for hypotheses that no other command needs: past clipping, zeros it made, flat inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.judge.hypothesis_facts import InputColumns, PastStep
from gradscope.read.optimizer_state import NEVER_REACHED
from gradscope.records import ALL_LAYERS
from gradscope.run.together import timeline_series

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradscope.records import LayerGradient, Report, SnapshotGradient, StepShift, ZeroDetails
    from gradscope.run.inputs import RunSlices
    from gradscope.run.join import Moment
    from gradscope.run.listing import OpenedRun
    from gradscope.settings import Settings

    Floats = NDArray[np.float64]

NO_INPUTS: Final = "the inputs of this run are not known"
NO_DETAILS: Final = "which columns are zero is not known"
NOT_STORED: Final = "only a stored gradient shows what clipping made of each value"


def past_steps(
    report: Report, run: OpenedRun, snapshot: SnapshotGradient, settings: Settings
) -> tuple[PastStep, ...]:
    """Clipping and zeros up to the snapshot's step: of the timeline, else of the checkpoints."""
    timeline = run.files.timelines[0] if run.files.timelines else None
    if timeline is None or snapshot.step is None or not len(timeline.step):
        return tuple(
            PastStep(
                step=each.step,
                norm_before_clip=each.norm_before_clip,
                clip_coefficient=each.clip_coefficient,
                zero_fraction=each.zero_fraction,
            )
            for each in report.snapshots
            if each.run == snapshot.run
            and each.step is not None
            and each.step <= (snapshot.step or each.step)
        )
    series = timeline_series(timeline, settings)
    steps, place = np.unique(timeline.step, return_inverse=True)
    norms = _largest(timeline.norm_before_clip, place, len(steps))
    factors = -_largest(-timeline.clip_coefficient, place, len(steps))
    return tuple(
        PastStep(
            step=int(each),
            norm_before_clip=_known(norms[at]),
            clip_coefficient=_known(factors[at]),
            zero_fraction=_known(series.fractions[ALL_LAYERS][at]),
        )
        for at, each in enumerate(steps)
        if each <= snapshot.step
    )


def pushed_zeros(moment: Moment, snapshot: SnapshotGradient, tolerance: float) -> dict[str, int] | str:
    """By layer: stored values within the tolerance that were above it before clipping; or why not known.

    Raises:
        UnreadableFile: the file changed since it was opened.
    """
    factor = snapshot.clip_coefficient
    if factor is None:
        return snapshot.reasons.get("clip_coefficient", "the clip coefficient is not known")
    if factor >= 1:
        return {}
    if moment.recorded is None or (snapshot.gradient_source is None and moment.checkpoint is not None):
        return NOT_STORED
    found = {}
    for name, layer in moment.recorded.layers.items():
        if layer.gradient is not None:
            size = np.abs(layer.gradient.astype(np.float64))
            small = (size > 0) & (size <= tolerance)
            found[name] = int(np.count_nonzero(small & (size > tolerance * factor)))
    return found


def taken_inputs(
    snapshot: SnapshotGradient, known: RunSlices, shift: StepShift | None
) -> Mapping[str, InputColumns] | str:
    """Layers with zero or constant columns that take the observation; or why that is not known."""
    if not known.shapes:
        return known.reason or NO_INPUTS
    if all(layer.details is None for layer in snapshot.layers):
        return NO_DETAILS
    moving = _moving(shift)
    return {
        layer.name: _columns(layer, layer.details, moving)
        for layer in snapshot.layers
        if layer.details is not None and layer.details.input_names
    }


def unreached_layers(snapshot: SnapshotGradient) -> tuple[str, ...]:
    """Layers that a stepped optimizer owns and holds nothing of: no gradient ever came."""
    return tuple(each.name for each in snapshot.layers if each.reasons.get("optimizer") == NEVER_REACHED)


def _columns(layer: LayerGradient, details: ZeroDetails, moving: set[str]) -> InputColumns:
    names = {column: name.partition(" (bar")[0] for column, name in details.input_names.items()}
    flat = [each for each in details.dead_inputs if names.get(str(each), "") not in moving]
    slices = (details.input_slices.get(str(each)) for each in (*flat, *details.parallel_inputs))
    listed = len(details.dead_inputs)
    # Of more than are listed, the share among the listed.
    scale = (details.num_dead_inputs or listed) / listed if listed else 1.0
    return InputColumns(
        num_inputs=layer.shape[1],
        num_flat=round(len(flat) * scale),
        num_parallel=details.num_parallel_inputs or 0,
        names=tuple(dict.fromkeys(each for each in slices if each)),
    )


def _moving(shift: StepShift | None) -> set[str]:
    """Columns of one bar that were away from rest on any row of the step's window, by name."""
    columns = [column for each in (shift.slices if shift else ()) for column in each.columns]
    active = [each for each in columns if each.active_fraction]
    return {each.name for each in active if each.name} | {f"column {each.index}" for each in active}


def _largest(values: Floats, place: Any, count: int) -> Floats:
    """Largest value of each step; NaN where none is known."""
    found = np.full(count, -np.inf)
    finite = ~np.isnan(values)
    np.maximum.at(found, place[finite], values[finite])
    return np.where(np.isneginf(found), np.nan, found)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
