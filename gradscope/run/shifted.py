"""Input shift of one run: windows of every step against the reference's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.errors import UsageError
from gradscope.measure import ShiftWindow, step_shifts
from gradscope.run.inputs import step_window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gradscope.records import StepShift
    from gradscope.run.inputs import RunSlices, Window
    from gradscope.run.join import Moment


NO_ROWS: Final = "no replay buffer and no recorded batch with rows"


def run_shift(
    moments: Sequence[Moment],
    known: RunSlices,
    relative: Callable[[Path], str],
    reference: str | None,
) -> tuple[tuple[StepShift, ...], str | None]:
    """Shift per step and slice, or none and the reason.

    Raises:
        UsageError: the reference is no step of this run.
    """
    if not known.slices:
        _refuse(reference, known.reason)
        return (), known.reason
    found = [(moment, step_window(moment)) for moment in moments]
    windows = [(moment, window) for moment, window in found if window is not None and window.num_rows]
    if not windows:
        _refuse(reference, NO_ROWS)
        return (), NO_ROWS
    place = _reference(windows, reference)
    return step_shifts(
        [_shift_window(moment, window, relative) for moment, window in windows],
        slices=known.slices,
        sequence_length=known.sequence_length,
        feature_names=known.feature_names,
        reference=place,
    ), None


def _refuse(reference: str | None, reason: str | None) -> None:
    if reference is not None:
        raise UsageError(f"--reference {reference}: {reason}.")


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


def _reference(windows: Sequence[tuple[Moment, Window]], reference: str | None) -> int:
    if reference is None:
        return 0
    steps = [str(moment.step) for moment, _ in windows]
    if reference not in steps:
        message = f"--reference {reference}: no step of this run. Its steps: {', '.join(steps)}."
        raise UsageError(message)
    return steps.index(reference)
