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
    from gradscope.cli.written import is_written, written
    from gradscope.show.frames import to_frame
    from gradscope.show.json_document import report_document
    from gradscope.show.markdown import markdown
    from gradscope.show.report_page import report_page

    check_outputs(shared)
    found, whys = (written(path), {}) if path is not None and is_written(path) else _measured(path, shared)
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
