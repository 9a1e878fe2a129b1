"""What Python users call beside ``scan`` and ``open_run``: single files, and showing a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from gradscope.errors import UnreadableFile, UsageError
from gradscope.read import open_file
from gradscope.records import Replay, Report, Snapshot

if TYPE_CHECKING:
    import pandas as pd

FORMS: Final = ("terminal", "json", "csv", "markdown")


def open_snapshot(path: str | Path) -> Snapshot:
    """Open one checkpoint or recorder file; layers are read when they are asked for.

    Raises:
        UnreadableFile: it cannot be read, or it is something else.
    """
    record = open_file(Path(path))
    if not isinstance(record, Snapshot):
        raise UnreadableFile(Path(path), f"holds a {type(record).__name__}, not a checkpoint")
    return record


def open_replay(path: str | Path) -> Replay:
    """Open one replay buffer: its valid rows, in order of collection.

    Raises:
        UnreadableFile: it cannot be read, or it is something else.
    """
    record = open_file(Path(path))
    if not isinstance(record, Replay):
        raise UnreadableFile(Path(path), f"holds a {type(record).__name__}, not a replay buffer")
    return record


def to_frame(report: Report) -> pd.DataFrame:
    """One row a layer and snapshot, as a pandas frame; fractions are 0..1, unknown is missing."""
    from gradscope.show.frames import to_frame as frame  # noqa: PLC0415  pandas only where asked for

    return frame(report)


def show_as(report: Report, form: str = "terminal", *, width: int = 80) -> str:
    """The report as text: terminal (``width`` cells), json, csv or markdown.

    Raises:
        UsageError: unknown form.
    """
    from gradscope.show import frames, json_document, markdown, scan_screen, screen  # noqa: PLC0415  rich, lazily

    match form:
        case "terminal":
            return scan_screen.scan_screen(report, screen.Look(width=width))
        case "json":
            return json_document.as_json(json_document.scan_document(report))
        case "csv":
            return frames.to_csv(frames.to_frame(report))
        case "markdown":
            return markdown.markdown(report)
    raise UsageError(f"unknown form {form!r}. Known: {', '.join(FORMS)}.")
