"""What goes to the terminal: screens to standard output, notices and progress to standard error."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gradscope.errors import NothingReadable, UnreadableFile, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pandas as pd

    from gradscope.cli.options import Shared
    from gradscope.records import Report
    from gradscope.run.find import Progress
    from gradscope.show.screen import Look

MIN_WIDTH: Final = 60
FORMS: Final = (".json", ".csv", ".md")


def notice(text: str, shared: Shared) -> None:
    """One line on standard error, unless --quiet."""
    if not shared.quiet:
        complain(text)


def complain(text: str) -> None:
    """One line on standard error; control characters from file names are written out."""
    from gradscope.show.rows import safe

    # Nobody can be told that nobody can be told; the exit code still counts.
    with suppress(OSError):
        sys.stderr.write(f"gradscope: {safe(text)}\n")


def disk_trouble(error: OSError) -> str:
    """One line on a file or folder that the system refuses, or on standard output that takes no more."""
    why = error.strerror or str(error)
    if error.filename is None:
        return f"reading or writing failed: {why}. Check the disk, and where standard output goes."
    return f"{os.fsdecode(error.filename)}: {why}. Check the permissions of the file and its folders."


def look_of(shared: Shared) -> Look:
    """Width, color and characters for this terminal."""
    from gradscope.show.screen import Look

    encoding = (sys.stdout.encoding or "ascii").lower()
    color = sys.stdout.isatty() and not shared.no_color and not os.environ.get("NO_COLOR")
    return Look(
        width=max(shutil.get_terminal_size((80, 24)).columns, MIN_WIDTH),
        color=color and os.environ.get("TERM") != "dumb",
        ascii_only=shared.ascii_ or "utf" not in encoding,
    )


@contextmanager
def progress_bar(shared: Shared) -> Iterator[Progress | None]:
    """A progress bar on standard error, only where that is a terminal; it leaves nothing behind."""
    if shared.quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(file=sys.stderr, no_color=shared.no_color or None), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield show


def check_outputs(shared: Shared) -> None:
    """Refuse an output that could not be written before any work is done.

    Raises:
        UsageError: unknown suffix, or no such folder.
    """
    for path in shared.output or ():
        if path.suffix.lower() not in FORMS:
            raise UsageError(f"-o {path}: unknown form {path.suffix!r}. Known: {', '.join(FORMS)}.")
        if not path.parent.is_dir():
            raise UsageError(f"-o {path}: no such folder: {path.parent}. Make it first.")
        if path.is_dir():
            raise UsageError(f"-o {path}: is a folder. Name a file in it.")


def emit(
    report: Report,
    shared: Shared,
    screen: Callable[[Report, Look], str],
    document: Callable[[Report], Mapping[str, Any]],
    frame: Callable[[Report], pd.DataFrame],
    markdown: Callable[[Report], str],
) -> None:
    """Write the files asked for, then the screen or the JSON document to standard output.

    Raises:
        UsageError: a file cannot be written.
    """
    from gradscope.show.json_document import as_json
    from gradscope.store import write_whole

    for path in shared.output or ():
        text = _form(path, report, document, frame, markdown)
        try:
            write_whole(path, text)
        except OSError as error:
            raise UsageError(f"-o {path}: cannot be written: {error.strerror}.") from error
        notice(f"wrote {path}", shared)
    text = as_json(document(report)) if shared.json_ else screen(report, look_of(shared))
    sys.stdout.write(text)
    sys.stdout.flush()


def _form(
    path: Path,
    report: Report,
    document: Callable[[Report], Mapping[str, Any]],
    frame: Callable[[Report], pd.DataFrame],
    markdown: Callable[[Report], str],
) -> str:
    from gradscope.show.frames import to_csv
    from gradscope.show.json_document import as_json

    match path.suffix.lower():
        case ".json":
            return as_json(document(report))
        case ".csv":
            return to_csv(frame(report))
        case _:
            return markdown(report)


def exit_code(report: Report, shared: Shared) -> int:
    """4 nothing read, 2 nothing came of what was named, 3 some unreadable, 1 --fail-on reached, 0 done."""
    from gradscope.run import nothing_readable

    if nothing := nothing_readable(report):
        complain(nothing)
        return NothingReadable.exit_code
    if not report.snapshots:
        notice("no checkpoint could be read here, only replay buffers or timelines: nothing to scan", shared)
    if problem := _not_done(report, shared):
        complain(problem)
        return UsageError.exit_code
    if report.unreadable:
        return UnreadableFile.exit_code
    if shared.fail_on is not None:
        return _reached(report, shared.fail_on.value)
    return 0


def _not_done(report: Report, shared: Shared) -> str | None:
    """What was named by the user and led to no gradient at all, with the first reason."""
    named = [f"--{name} {value}" for name in ("model", "replay") if (value := getattr(shared, name))]
    if not (named and report.snapshots) or any(each.zero_fraction is not None for each in report.snapshots):
        return None
    reason = report.snapshots[0].reasons.get("zero_fraction", "not known why")
    return f"{' '.join(named)}: no gradients: {reason}"


def _reached(report: Report, name: str) -> int:
    from gradscope.records import Status

    unknown = sum(snapshot.status is Status.UNKNOWN for snapshot in report.snapshots)
    if unknown:
        complain(f"--fail-on {name}: {unknown} of {len(report.snapshots)} snapshots could not be judged")
    return int(any(snapshot.status.rank >= Status(name).rank for snapshot in report.snapshots))
