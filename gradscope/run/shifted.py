"""Input shift of every run: windows of every step against the reference's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gradscope.errors import UsageError
from gradscope.measure import ShiftWindow, step_shifts
from gradscope.records import ShiftReport, Status
from gradscope.run.activity import activity
from gradscope.run.inputs import fitting_window
from gradscope.run.listing import slice_selectors, slices_from

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gradscope.records import ColumnShift, Report, SliceShift, StepShift
    from gradscope.run.inputs import RunSlices, Window
    from gradscope.run.join import Moment
    from gradscope.run.listing import Opened, OpenedRun

    Windows = Sequence[tuple[Moment, Window]]

NO_ROWS: Final = "no replay buffer and no recorded batch with rows"
NORMALISED: Final = (
    "a batch as VecNormalize left it, whose statistics move from step to step: only replay buffers compare"
)
_NOT_COMPARED: Final = ("wasserstein", "wasserstein_max", "ks", "fraction_shifted", "status")
_COLUMN_NOT_COMPARED: Final = (
    "active_fraction_reference",
    "active_fraction",
    "wasserstein",
    "ks",
    "psi",
    "p_value_adjusted",
)


def with_shift(report: Report, opened: Opened, reference: str | None = None) -> Report:
    """The report with the input shift of every run added.

    Raises:
        UsageError: the reference is no step of any run.
    """
    steps: list[StepShift] = []
    reasons: dict[str, str] = {}
    for run in opened.runs:
        shifted, reason = _run_shift(run, opened.found.relative, reference)
        steps.extend(shifted)
        if reason:
            reasons[run.files.run] = reason
    if reference is not None and opened.runs and not steps:
        raise UsageError(f"--reference {reference}: {next(iter(reasons.values()))}.")
    shift = ShiftReport(
        steps=tuple(steps), slices=slice_selectors(opened), slices_from=slices_from(opened), reasons=reasons
    )
    return replace(report, shift=shift)


def only_slices(report: Report, names: Sequence[str]) -> Report:
    """The report with the shift of these slices alone; of all where none is named."""
    if not names or report.shift is None:
        return report
    steps = tuple(
        replace(step, slices=tuple(each for each in step.slices if each.name in names))
        for step in report.shift.steps
    )
    selectors = {name: columns for name, columns in report.shift.slices.items() if name in names}
    return replace(report, shift=replace(report.shift, steps=steps, slices=selectors))


def _run_shift(
    run: OpenedRun, relative: Callable[[Path], str], reference: str | None
) -> tuple[tuple[StepShift, ...], str | None]:
    """Shift per step and slice, or none and the reason."""
    known = run.slices
    if not known.slices:
        return (), known.reason
    found = [(moment, fitting_window(moment, known)) for moment in run.moments]
    windows = [(moment, window) for moment, window in found if window is not None and window.num_rows]
    if not windows:
        return (), NO_ROWS
    steps = [str(moment.step) for moment, _ in windows]
    if reference is not None and reference not in steps:
        return (), f"no such step of run {run.files.run!r}; its steps: {', '.join(steps)}"
    place = _earliest(windows, known) if reference is None else steps.index(reference)
    shifts = step_shifts(
        [_shift_window(moment, window, relative) for moment, window in windows],
        slices=known.slices,
        sequence_length=known.sequence_length,
        feature_names=known.feature_names,
        reference=place,
    )
    return tuple(_comparable(shifts, windows, known, place)), None


def _earliest(windows: Windows, known: RunSlices) -> int:
    """The first window as collected; the first at all where every one is normalised."""
    raw = (place for place, (moment, _) in enumerate(windows) if not _is_normalised(moment, known))
    return next(raw, 0)


def _is_normalised(moment: Moment, known: RunSlices) -> bool:
    return moment.replay is None and known.normalised


def _comparable(
    shifts: Sequence[StepShift], windows: Windows, known: RunSlices, reference: int
) -> list[StepShift]:
    """Distances between normalised batches would be of the statistics, not of the market: left out."""
    blank_all = _is_normalised(windows[reference][0], known)
    return [
        _without_distances(step, moment, known) if blank_all or _is_normalised(moment, known) else step
        for step, (moment, _) in zip(shifts, windows, strict=True)
    ]


def _without_distances(step: StepShift, moment: Moment, known: RunSlices) -> StepShift:
    return replace(step, slices=tuple(_slice_without(each, moment, known) for each in step.slices))


def _slice_without(shifted: SliceShift, moment: Moment, known: RunSlices) -> SliceShift:
    """Only rms, which is of the inputs, and the activity that ``scan`` tells of the same step."""
    active = activity(moment, known, shifted.name)
    reasons = {**shifted.reasons, **dict.fromkeys(_NOT_COMPARED, NORMALISED)}
    if active.fraction is None:
        reasons["activity"] = next(iter(active.reasons.values()))
    return replace(
        shifted,
        activity=active.fraction,
        wasserstein=None,
        wasserstein_max=None,
        ks=None,
        fraction_shifted=None,
        status=Status.UNKNOWN,
        columns=tuple(_column_without(column) for column in shifted.columns),
        reasons=reasons,
    )


def _column_without(column: ColumnShift) -> ColumnShift:
    return replace(
        column,
        active_fraction_reference=None,
        active_fraction=None,
        wasserstein=None,
        ks=None,
        psi=None,
        p_value_adjusted=None,
        reasons={**column.reasons, **dict.fromkeys(_COLUMN_NOT_COMPARED, NORMALISED)},
    )


def _shift_window(moment: Moment, window: Window, relative: Callable[[Path], str]) -> ShiftWindow:
    source = moment.replay.replay.source if moment.replay else moment.main.source
    return ShiftWindow(
        run=moment.run,
        step=moment.step,
        source=relative(source),
        raw=window.raw,
        inputs=window.inputs(),
        truncated=window.truncated,
        notes=window.notes,
    )
