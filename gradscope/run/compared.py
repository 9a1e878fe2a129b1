"""Two runs -> a Comparison: open, scan and shift each, then judge them side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gradscope.errors import NothingReadable, UsageError
from gradscope.judge.compare import comparison
from gradscope.records import Report
from gradscope.run import check_slices, nothing_readable, only_slices, open_run, scan_opened, with_shift
from gradscope.show.compare_words import verdict_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradscope.records import Comparison
    from gradscope.run import Opened
    from gradscope.run.find import Progress
    from gradscope.run.given import Announce
    from gradscope.settings import Settings


def compare(
    a: str | Path | Report,
    b: str | Path | Report,
    *,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare two runs, as ``gradscope compare`` does: paths, or reports that were made before.

    Without ``settings``: for each path those of its own configuration file.

    Raises:
        UsageError: a path or the configuration is wrong, or a path or report holds several runs.
        NothingReadable: nothing could be read in one of them.
    """
    reports = []
    for each in (a, b):
        report = each if isinstance(each, Report) else run_report(Path(each), settings, progress=progress)
        if nothing := nothing_readable(report):
            raise NothingReadable(nothing)
        reports.append(one_run_of(report))
    return compared(reports[0], reports[1])


def run_report(
    path: Path,
    settings: Settings | None = None,
    *,
    run: str | None = None,
    slices: Sequence[str] = (),
    progress: Progress | None = None,
    announce: Announce | None = None,
) -> Report:
    """Zeros and shift of the one run under a path.

    Args:
        path: folder or file.
        settings: None: those of its configuration file.
        run: which, where there are several.
        slices: to show the shift of; all where none is named.
        progress: told of each file and snapshot.
        announce: told of the user's own code before it runs.

    Raises:
        UsageError: a path, the configuration or a slice is wrong, or there are several runs and none named.
    """
    opened = _only_run(open_run(path, settings=settings, progress=progress), path, run)
    check_slices(opened, slices)
    report = replace(scan_opened(opened, progress, announce), path=_shown(path, opened))
    return only_slices(with_shift(report, opened), slices)


def one_run_of(report: Report, run: str | None = None) -> Report:
    """The report with one run left.

    Raises:
        UsageError: several runs and none named.
    """
    names = [*dict.fromkeys(snapshot.run for snapshot in report.snapshots)]
    if len(names) <= 1:
        return report
    if run not in names:
        listed = ", ".join(map(repr, names))
        raise UsageError(f"{report.path}: several runs are here. Choose one with --run: {listed}.")
    shift = report.shift
    if shift is not None:
        shift = replace(shift, steps=tuple(step for step in shift.steps if step.run == run))
    return replace(
        report,
        path=f"{report.path}/{run}",
        snapshots=tuple(each for each in report.snapshots if each.run == run),
        crossings=tuple(each for each in report.crossings if each.run == run),
        shift=shift,
    )


def compared(a: Report, b: Report) -> Comparison:
    """The comparison of two reports of one run each, with its verdict in words."""
    found = comparison(a, b, told_apart(a.path, b.path))
    return replace(found, reason=verdict_words(found))


def told_apart(a: str, b: str) -> tuple[str, str]:
    """The ends of two paths, long enough to differ, a file's with its folder; of one path twice the least."""
    one, other = Path(a).absolute().parts, Path(b).absolute().parts
    longest = max(len(one), len(other))
    start = 2 if Path(a).is_file() and Path(b).is_file() else 1
    least = next((size for size in range(start, longest + 1) if one[-size:] != other[-size:]), start)
    return "/".join(one[-least:]), "/".join(other[-least:])


def _only_run(opened: Opened, path: Path, name: str | None) -> Opened:
    """The run with snapshots; where several have some, the one named."""
    runs = [run for run in opened.runs if run.moments] or [*opened.runs]
    if len(runs) > 1:
        names = [run.files.run for run in runs]
        if name not in names:
            problem = f"no run is called {name!r}" if name else f"{len(runs)} runs are here"
            listed = ", ".join(names)
            raise UsageError(
                f"{path}: {problem}: {listed}. Name one's folder, like {path / names[-1]}, or --run."
            )
        runs = [run for run in runs if run.files.run == name]
    return replace(opened, runs=tuple(runs))


def _shown(path: Path, opened: Opened) -> str:
    """The path, with the folder of a run that was chosen under it."""
    several = len({run.files.run for run in opened.runs} | {files.run for files in opened.found.runs}) > 1
    chosen = opened.runs[0].files.run if opened.runs else "."
    return str(path / chosen) if several and path.is_dir() and chosen != "." else str(path)
