"""``gradscope compare``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradscope.cli.options import Shared, analysing

if TYPE_CHECKING:
    from gradscope.records import Report

EXIT_ORDER = (2, 4, 3, 1, 0)
"""The first that fits either run is the command's."""


@analysing
def compare(
    run_a: Annotated[
        Path, typer.Argument(metavar="RUN_A", help="Folder or file of a run, or results written by -o.")
    ],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="The run to compare it with.")],
    *,
    shared: Shared,
) -> int:
    """Set two runs side by side: which one loses its gradients, when, and in which layers."""
    from gradscope.cli.terminal import check_outputs, emit, exit_code
    from gradscope.run.compared import compared
    from gradscope.show.compare_document import compare_document, compare_frame, compare_markdown
    from gradscope.show.compare_screen import compare_screen

    check_outputs(shared)
    reports = [_side(path, shared) for path in (run_a, run_b)]
    found = compared(*reports)
    emit(
        reports[0],
        shared,
        lambda _, look: compare_screen(found, look),
        lambda _: compare_document(found),
        lambda _: compare_frame(found),
        lambda _: compare_markdown(found),
    )
    return min((exit_code(report, shared) for report in reports), key=EXIT_ORDER.index)


def _side(path: Path, shared: Shared) -> Report:
    """One run, scanned and with its shift; or results that were written earlier."""
    from gradscope.cli.settings_asked import bare_slices, settings_of
    from gradscope.cli.terminal import complain, progress_bar
    from gradscope.cli.work import measuring
    from gradscope.cli.written import is_written, written
    from gradscope.errors import UsageError
    from gradscope.run.compared import one_run_of, run_report

    if is_written(path):
        if asked := measuring(shared):
            raise UsageError(f"{path}: holds results, which {asked[0]} cannot change. Name the run's folder.")
        return replace(one_run_of(written(path), shared.run), path=str(path))
    settings = settings_of(shared, [path])
    try:
        with progress_bar(shared) as progress:
            # Not a notice: --quiet does not silence what code of the user's runs.
            return run_report(
                path,
                settings,
                run=shared.run,
                slices=bare_slices(shared),
                progress=progress,
                announce=complain,
            )
    except UsageError as error:
        # A layer or slice may be known in one run only: the line says in which it is not.
        raise error if str(path) in str(error) else UsageError(f"{path}: {error}") from error
