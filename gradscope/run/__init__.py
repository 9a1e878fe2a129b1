"""The pipeline: a run's files -> Report.

opened = open_run("checkpoints/")          # OPEN: every file, joined by step
report = scan_opened(opened, Settings())   # MEASURE and JUDGE: zeros per layer and step
report = with_shift(report, opened)        # inputs per slice and step
report = with_associations(report, opened) # activity against zeros, never called a cause
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gradscope.errors import NothingReadable, UsageError
from gradscope.judge import crossings
from gradscope.records import ReplayFile, Report, ShiftReport, TimelineFile
from gradscope.run.find import find, only_of_file
from gradscope.run.gradient import snapshot_gradient
from gradscope.run.inputs import POSITION, RunSlices, activity, run_slices
from gradscope.run.join import Moment, moments
from gradscope.run.shifted import run_shift
from gradscope.run.together import association_report
from gradscope.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.records import SnapshotGradient, StepShift
    from gradscope.run.find import Found, Progress, RunFiles


@dataclass(frozen=True, kw_only=True)
class OpenedRun:
    """One run: its files, its moments in order, its slices."""

    files: RunFiles
    moments: tuple[Moment, ...]
    slices: RunSlices


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Everything under a PATH, opened and joined by step."""

    found: Found
    runs: tuple[OpenedRun, ...]
    settings: Settings


def open_run(
    *paths: str | Path, settings: Settings | None = None, progress: Progress | None = None
) -> Opened:
    """Open every file under the paths and join what belongs together; nothing in a file is executed.

    Raises:
        UsageError: a path does not exist, or a slice does not fit the observations.
    """
    settings = settings or Settings()
    places = [Path(path) for path in paths]
    found = find(places, progress)
    if len(places) == 1 and not places[0].is_dir():
        found = only_of_file(found, places[0])
    runs = []
    for files in found.runs:
        joined = tuple(moments(files))
        if joined or files.replays or files.timelines:
            runs.append(OpenedRun(files=files, moments=joined, slices=run_slices(files, joined, settings)))
    return Opened(found=found, runs=tuple(runs), settings=settings)


def nothing_readable(report: Report) -> str | None:
    """One line where no checkpoint, replay or timeline could be read at all; None where one could."""
    if report.snapshots or report.replays or report.timelines:
        return None
    if report.unreadable:
        first = report.unreadable[0]
        more = f" (and {len(report.unreadable) - 1} more files)" if len(report.unreadable) > 1 else ""
        return f"{report.path}: nothing could be read: {first.source}: {first.reason}{more}"
    return (
        f"{report.path}: no checkpoint, replay buffer or recorder file found "
        f"({len(report.skipped)} files skipped). `gradscope formats` lists what can be read."
    )


def scan_opened(opened: Opened, progress: Progress | None = None) -> Report:
    """Zero gradients per layer and step, crossings, and what could not be read."""
    total = sum(len(run.moments) for run in opened.runs)
    snapshots: list[SnapshotGradient] = []
    for run in opened.runs:
        for moment in run.moments:
            if progress:
                progress("measuring", len(snapshots), total)
            names = _names(opened.found, moment)
            active = activity(moment, run.slices, POSITION)
            snapshots.append(snapshot_gradient(moment, opened.settings, active, names))
    if progress:
        progress("measuring", total, total)
    found = opened.found
    return Report(
        path=found.path,
        zero_tolerance=opened.settings.zero_tolerance,
        limits=vars(opened.settings.limits),
        slices=_slices(opened),
        slices_from=_slices_from(opened),
        snapshots=tuple(snapshots),
        crossings=crossings(snapshots, opened.settings),
        replays=_replays(opened),
        timelines=_timelines(opened),
        skipped=tuple(found.skipped),
        unreadable=tuple(found.unreadable),
        notes=_notes(opened, snapshots),
    )


def with_shift(report: Report, opened: Opened, reference: str | None = None) -> Report:
    """The report with the input shift of every run added.

    Raises:
        UsageError: the reference is no step of the run.
    """
    steps: list[StepShift] = []
    reasons: dict[str, str] = {}
    for run in opened.runs:
        shifted, reason = run_shift(run.moments, run.slices, opened.found.relative, reference)
        steps.extend(shifted)
        if reason:
            reasons[run.files.run] = reason
    shift = ShiftReport(
        steps=tuple(steps), slices=_slices(opened), slices_from=_slices_from(opened), reasons=reasons
    )
    return replace(report, shift=shift)


def with_associations(report: Report, opened: Opened, name: str = POSITION) -> Report:
    """The report with slice activity against zeros added, run by run.

    Raises:
        UsageError: no slice of that name.
    """
    results = []
    for run in opened.runs:
        if run.slices.named(name) is None and name != POSITION:
            raise UsageError(_no_slice(name, run.slices))
        snapshots = [each for each in report.snapshots if each.run == run.files.run]
        timeline = run.files.timelines[0] if run.files.timelines else None
        results.append(
            association_report(
                run.files.run,
                name,
                moments=run.moments,
                snapshots=snapshots,
                timeline=timeline,
                known=run.slices,
                settings=opened.settings,
            )
        )
    return replace(report, associations=tuple(results))


def scan(
    path: str | Path, *more: str | Path, settings: Settings | None = None, progress: Progress | None = None
) -> Report:
    """Scan checkpoints under the paths, as ``gradscope scan`` does.

    Raises:
        UsageError: a path does not exist, or a slice does not fit the observations.
        NothingReadable: nothing could be read.
    """
    report = scan_opened(open_run(path, *more, settings=settings, progress=progress), progress)
    if nothing := nothing_readable(report):
        raise NothingReadable(nothing)
    return report


def one_run(opened: Opened, name: str | None) -> Opened:
    """The opened files with one run left.

    Raises:
        UsageError: no run of that name, or several and none named.
    """
    names = [run.files.run for run in opened.runs]
    if name is None and len(names) == 1:
        return opened
    if name not in names:
        problem = f"no run is called {name!r}" if name else "several runs are here"
        raise UsageError(f"{opened.found.path}: {problem}. Choose one with --run: {', '.join(names)}.")
    return replace(opened, runs=tuple(run for run in opened.runs if run.files.run == name))


def _no_slice(name: str, known: RunSlices) -> str:
    names = ", ".join(each.name for each in known.slices) or "none"
    return f"no slice is called {name!r} (known: {names}). Define it: --slice {name}=A:B."


def _names(found: Found, moment: Moment) -> Mapping[str, str | None]:
    joined = moment.recorded if moment.checkpoint is not None else None
    return {
        "source": found.relative(moment.main.source),
        "gradient_source": found.relative(joined.source) if joined else None,
    }


def _slices(opened: Opened) -> dict[str, str]:
    """Slice name to its selector; of the first run that has slices."""
    for run in opened.runs:
        if run.slices.slices:
            return {each.name: each.selector for each in run.slices.slices}
    return {name: ",".join(selectors) for name, selectors in opened.settings.slices.items()}


def _slices_from(opened: Opened) -> str:
    known = (run.slices.source for run in opened.runs if run.slices.slices)
    return next(known, opened.settings.slices_from or "guessed")


def _replays(opened: Opened) -> tuple[ReplayFile, ...]:
    return tuple(
        ReplayFile(
            run=run.files.run,
            step=each.replay.step,
            source=opened.found.relative(each.replay.source),
            num_rows=each.num_rows,
        )
        for run in opened.runs
        for each in sorted(
            run.files.replays, key=lambda each: (each.replay.step is None, each.replay.step or 0)
        )
    )


def _timelines(opened: Opened) -> tuple[TimelineFile, ...]:
    return tuple(
        TimelineFile(run=run.files.run, source=opened.found.relative(each.source), num_rows=each.num_rows)
        for run in opened.runs
        for each in run.files.timelines
    )


def _notes(opened: Opened, snapshots: Sequence[SnapshotGradient]) -> tuple[str, ...]:
    notes = []
    guessed = [run for run in opened.runs if run.slices.source == "guessed" and run.slices.slices]
    if guessed:
        notes.append(
            "slices were guessed: columns constant in the earliest replay and varying later are `position`"
        )
    selectors = {
        tuple(each.selector for each in run.slices.slices) for run in opened.runs if run.slices.slices
    }
    if len(selectors) > 1:
        notes.append("runs differ in their slices; the first run's are shown")
    notes.extend(f"{snapshot.source}: {note}" for snapshot in snapshots for note in snapshot.notes)
    return tuple(notes)
