"""The pipeline: a run's files -> Report.

``open_run("checkpoints/")`` opens every file and joins what belongs together by step;
``scan_opened`` measures and judges zeros per layer and step; ``with_shift`` adds the inputs,
``with_associations`` activity against zeros, called a cause only where interventions show one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gradscope.errors import NothingReadable, UnreadableFile, UsageError
from gradscope.judge import crossings
from gradscope.read.held_map import num_made
from gradscope.read.memory import needs_more
from gradscope.records import Report
from gradscope.run.asked import check_layers, check_slices
from gradscope.run.configured import configured
from gradscope.run.dead_since import with_dead_since
from gradscope.run.effects import with_effects
from gradscope.run.find import find
from gradscope.run.given import Given, Means, given
from gradscope.run.inputs import RunSlices, run_slices
from gradscope.run.join import moments
from gradscope.run.kept import Kept, measured_snapshot
from gradscope.run.listing import (
    Opened,
    OpenedRun,
    broken_steps,
    no_slice,
    nothing_readable,
    replay_files,
    slice_selectors,
    slices_from,
    timeline_files,
)
from gradscope.run.named import leave_out_rows, leave_out_unnamed, only_named, strip
from gradscope.run.notes import report_notes
from gradscope.run.recorded import POSITION
from gradscope.run.shifted import only_slices, with_shift
from gradscope.run.together import association_report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradscope.records import SnapshotGradient
    from gradscope.run.find import Found, Progress, RunFiles
    from gradscope.run.given import Announce
    from gradscope.run.join import Moment
    from gradscope.run.kept import Documents
    from gradscope.settings import Settings


def open_run(
    *paths: str | Path, settings: Settings | None = None, progress: Progress | None = None
) -> Opened:
    """Open every file under the paths and join what belongs together; nothing in a file is executed.

    Without ``settings``: those of the gradscope.toml in a path's folder or the working directory.

    Raises:
        UsageError: a path, the configuration or a slice is wrong.
    """
    num_maps = num_made()
    places = [Path(path) for path in paths]
    settings = configured(places) if settings is None else settings
    beside = given(settings)
    # names that were given beside --replay are that file's, not those of what lies here
    keys = settings.replay_keys if settings.replay is None else {}
    found = find(places, progress, keys)
    leave_out_rows(found, settings.replay)
    runs = []
    for files in found.runs:
        joined = tuple(moments(files))
        kept = only_named(files, joined, found)
        slices = _slices_or_why_not(found, files, joined, kept, settings=settings, beside=beside)
        strip(files, kept, found)
        if kept or files.replays or files.timelines:
            runs.append(OpenedRun(files=files, moments=kept, slices=slices))
    leave_out_unnamed(found)
    check_layers(runs, settings)
    return Opened(found=found, runs=tuple(runs), settings=settings, given=beside, num_maps=num_maps)


def scan_opened(
    opened: Opened,
    progress: Progress | None = None,
    announce: Announce | None = None,
    documents: Documents | None = None,
) -> Report:
    """Zero gradients per layer and step, crossings, and what could not be read.

    ``announce`` is told of the user's own code before it runs, which it does with ``trust`` only.
    ``documents`` keep what was measured; nothing that the user's own code had a hand in.
    """
    snapshots = _measured(opened, progress, announce, documents)
    found = opened.found
    return Report(
        path=found.path,
        zero_tolerance=opened.settings.zero_tolerance,
        limits=vars(opened.settings.limits),
        layer_limits=opened.settings.layer_limits,
        slices=slice_selectors(opened),
        slices_from=slices_from(opened),
        snapshots=with_dead_since(snapshots),
        crossings=crossings(snapshots, opened.settings),
        replays=replay_files(opened),
        timelines=timeline_files(opened),
        skipped=tuple(found.skipped),
        unreadable=tuple(found.unreadable),
        notes=report_notes(opened, snapshots),
    )


def _measured(
    opened: Opened, progress: Progress | None, announce: Announce | None, documents: Documents | None
) -> list[SnapshotGradient]:
    """Snapshots of all runs in order; those that broke are listed with what was found."""
    means = Means(
        settings=opened.settings, given=opened.given, broken=broken_steps(opened.found), announce=announce
    )
    total = sum(len(run.moments) for run in opened.runs)
    snapshots: list[SnapshotGradient] = []
    can_keep = documents is not None and not opened.settings.trust
    kept = Kept(documents=documents, opened=opened, means=means) if documents and can_keep else None
    for run in opened.runs:
        for moment in run.moments:
            if progress:
                progress("measuring", len(snapshots), total)
            measured = measured_snapshot(opened, run, moment, means, kept)
            snapshots.extend([measured] if measured else [])
    if progress:
        progress("measuring", total, total)
    return snapshots


def _slices_or_why_not(
    found: Found,
    files: RunFiles,
    joined: Sequence[Moment],
    kept: Sequence[Moment],
    *,
    settings: Settings,
    beside: Given,
) -> RunSlices:
    """Of the whole run, so that a file alone shows the activity that it has among the others."""
    try:
        return run_slices(files, joined, settings, kept, beside.observations)
    except UnreadableFile as error:
        found.add_unreadable(error)
        return RunSlices(reason=f"the inputs cannot be read: {error.reason}")
    except MemoryError:
        return RunSlices(reason=f"the inputs cannot be read: this {needs_more()}")


def with_associations(
    report: Report,
    opened: Opened,
    name: str = POSITION,
    progress: Progress | None = None,
    announce: Announce | None = None,
) -> Report:
    """The report with slice activity against zeros added, run by run, and interventions on that slice.

    ``announce`` is told of the user's own code before it runs, which it does with ``trust`` only.

    Raises:
        UsageError: no slice of that name.
    """
    means = Means(
        settings=opened.settings, given=opened.given, broken=broken_steps(opened.found), announce=announce
    )
    results = []
    for run in opened.runs:
        if run.slices.named(name) is None and name != POSITION:
            raise UsageError(no_slice(name, run.slices))
        sources = {each.source: each for each in report.snapshots if each.run == run.files.run}
        kept = [each for each in run.moments if opened.found.relative(each.main.source) in sources]
        snapshots = [sources[opened.found.relative(each.main.source)] for each in kept]
        found = association_report(
            run.files.run,
            name,
            moments=kept,
            snapshots=snapshots,
            timeline=next(iter(run.files.timelines), None),
            known=run.slices,
            settings=opened.settings,
        )
        results.append(with_effects(found, kept, snapshots, means=means, known=run.slices, progress=progress))
    return replace(report, associations=tuple(results))


def scan(
    path: str | Path, *more: str | Path, settings: Settings | None = None, progress: Progress | None = None
) -> Report:
    """Scan checkpoints under the paths, as ``gradscope scan`` does, its configuration file included.

    Raises:
        UsageError: a path, the configuration or a slice is wrong.
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
        raise UsageError(
            f"{opened.found.path}: {problem}. Choose one with --run: {', '.join(map(repr, names))}."
        )
    return replace(opened, runs=tuple(run for run in opened.runs if run.files.run == name))


__all__ = [
    "Opened",
    "OpenedRun",
    "check_slices",
    "nothing_readable",
    "one_run",
    "only_slices",
    "open_run",
    "scan",
    "scan_opened",
    "with_associations",
    "with_shift",
]
