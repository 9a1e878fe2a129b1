"""Opened runs, and what a report lists of their files and slices."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gradscope.read.step_name import known_step
from gradscope.records import ReplayFile, TimelineFile
from gradscope.run.given import Given

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.records import Report
    from gradscope.run.find import Found, RunFiles
    from gradscope.run.inputs import RunSlices
    from gradscope.run.join import Moment
    from gradscope.settings import Settings


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
    given: Given = field(default_factory=Given)
    """What ``--replay`` named."""
    num_maps: int = 0
    """Files that were mapped into memory before any of these."""


def no_slice(name: str, known: RunSlices) -> str:
    """One line for a slice that nobody defined."""
    names = ", ".join(each.name for each in known.slices) or "none"
    return f"no slice is called {name!r} (known: {names}). Define it: --slice {name}=A:B."


def file_names(found: Found, moment: Moment) -> Mapping[str, str | None]:
    """A moment's files as reports show them."""
    joined = moment.recorded if moment.checkpoint is not None else None
    return {
        "source": found.relative(moment.main.source),
        "gradient_source": found.relative(joined.source) if joined else None,
        "double_of": found.relative(moment.double_of) if moment.double_of else None,
    }


def broken_steps(found: Found) -> dict[int | None, str]:
    """Unreadable files by the step that their names tell."""
    steps = {known_step(Path(left.source), {}).step: left.source for left in found.unreadable}
    return {step: source for step, source in steps.items() if step is not None}


def no_step(found: Found, step: int, what: str) -> str:
    """Why a run has nothing of a step: "no checkpoint of that step", or which file of it is broken."""
    broken = broken_steps(found).get(step)
    return f"no {what} of that step" if broken is None else f"{broken} could not be read"


def slice_selectors(opened: Opened) -> dict[str, str]:
    """Slice name to its selector; of the first run that has slices."""
    for run in opened.runs:
        if run.slices.slices:
            return {each.name: each.selector for each in run.slices.slices}
    return {name: ",".join(selectors) for name, selectors in opened.settings.slices.items()}


def slices_from(opened: Opened) -> str:
    """config, option, recorded or guessed; of the first run that has slices."""
    known = (run.slices.source for run in opened.runs if run.slices.slices)
    return next(known, opened.settings.slices_from or "guessed")


def replay_files(opened: Opened) -> tuple[ReplayFile, ...]:
    """Replay buffers by run and step."""
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


def timeline_files(opened: Opened) -> tuple[TimelineFile, ...]:
    """Recorder timelines by run."""
    return tuple(
        TimelineFile(run=run.files.run, source=opened.found.relative(each.source), num_rows=each.num_rows)
        for run in opened.runs
        for each in run.files.timelines
    )


def nothing_readable(report: Report) -> str | None:
    """One line where no checkpoint, replay or timeline could be read at all; None where one could."""
    if report.snapshots or report.replays or report.timelines:
        return None
    if report.unreadable:
        first = report.unreadable[0]
        more = f" (and {len(report.unreadable) - 1} more)" if len(report.unreadable) > 1 else ""
        return f"{report.path}: nothing could be read: {first.source}: {first.reason}{more}"
    return (
        f"{report.path}: no checkpoint, replay buffer or recorder file found "
        f"(skipped: {len(report.skipped)}). `gradscope formats` lists what can be read."
    )
