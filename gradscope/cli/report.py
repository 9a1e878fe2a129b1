"""``gradscope report``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradscope.cli.options import PathArgument, Shared, analysing

if TYPE_CHECKING:
    from pathlib import Path

    from gradscope.records import Report


@analysing
def report(path: PathArgument = None, *, shared: Shared) -> int:
    """Answer on one page: what collapsed, when, where, what the inputs did, what is not known."""
    from gradscope.cli.terminal import check_outputs, emit, exit_code
    from gradscope.show.frames import to_frame
    from gradscope.show.json_document import report_document
    from gradscope.show.markdown import markdown
    from gradscope.show.report_page import report_page

    check_outputs(shared)
    results = path is not None and path.suffix == ".json" and path.is_file()
    found, whys = (_written(path), {}) if path is not None and results else _measured(path, shared)
    emit(
        found,
        shared,
        lambda shown, look: report_page(shown, look, whys),
        report_document,
        to_frame,
        lambda shown: markdown(shown, whys),
    )
    return exit_code(found, shared)


def _measured(path: Path | None, shared: Shared) -> tuple[Report, dict[str, str]]:
    """The report, and by run what its hypotheses came to."""
    from gradscope.cli.terminal import complain, progress_bar
    from gradscope.cli.work import work_on
    from gradscope.run import with_associations, with_shift
    from gradscope.run.explain import run_whys
    from gradscope.show.explain_screen import why_words

    work = work_on([path] if path else [], shared)
    shifted = with_shift(work.report, work.opened)
    with progress_bar(work.shared) as progress:
        report = with_associations(shifted, work.opened, progress=progress, announce=complain)
        whys = run_whys(report, work.opened, announce=complain, progress=progress)
    return report, {run: why_words(report, each) for run, each in whys.items()}


def _written(path: Path) -> Report:
    """A report of results written earlier.

    Raises:
        UsageError: not JSON, or not ours.
    """
    import json

    from gradscope.errors import UsageError
    from gradscope.show.json_document import report_from

    try:
        return report_from(json.loads(path.read_text("utf-8")), str(path))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not valid JSON: {error}. Write it with -o results.json.") from error
