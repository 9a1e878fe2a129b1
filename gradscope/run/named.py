"""A PATH that is a file: what is left of a run is that file and the snapshot it belongs to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradscope.run.find import Found, RunFiles
    from gradscope.run.join import Moment


def only_named(files: RunFiles, joined: Sequence[Moment], found: Found) -> tuple[Moment, ...]:
    """The moments with a file that was named; all of a folder that was.

    Call it after joining: which checkpoint came before, and which claims a replay buffer, is known of
    whole runs only.
    """
    if found.holds(files.folder):
        return tuple(joined)
    return tuple(moment for moment in joined if any(path in found.named for path in _sources(moment)))


def strip(files: RunFiles, kept: Sequence[Moment], found: Found) -> None:
    """Drop a run's files that were not named and belong to none of the moments kept.

    A run of which only unreadable or unknown files were named is left with nothing.
    """
    if found.holds(files.folder):
        return
    used = {path for moment in kept for path in _sources(moment)} | set(found.named)
    files.checkpoints = [each for each in files.checkpoints if each.source in used]
    files.recorded = [each for each in files.recorded if each.source in used]
    files.replays = [each for each in files.replays if each.replay.source in used]
    files.normalizers = [each for each in files.normalizers if each.source in used]
    if not (kept or files.replays):
        files.timelines = [each for each in files.timelines if each.source in used]


def leave_out_unnamed(found: Found) -> None:
    """Forget siblings that were only looked at because a file beside them was named."""
    for rows in (found.skipped, found.unreadable):
        rows[:] = [
            left
            for left in rows
            if (path := found.base / left.source) in found.named or found.holds(path.parent)
        ]


def leave_out_rows(found: Found, path: Path | None) -> None:
    """Forget as a checkpoint what ``--replay`` named: a dict of tensors may be either."""
    named = None if path is None else Path(os.path.normpath(path.absolute()))
    for files in found.runs:
        files.checkpoints = [each for each in files.checkpoints if each.source != named]


def _sources(moment: Moment) -> Iterator[Path]:
    snapshots = (moment.checkpoint, moment.recorded, moment.normalizer)
    yield from (each.source for each in snapshots if each is not None)
    if moment.replay is not None:
        yield moment.replay.replay.source
