"""``gradscope correlate``."""

from __future__ import annotations

from typing import Annotated

import typer

from gradscope.cli.options import PathArgument, Shared, analysing


@analysing
def correlate(
    path: PathArgument = None,
    positions: Annotated[
        bool, typer.Option("--positions", help="The slice `position`; also the default.")
    ] = False,
    *,
    shared: Shared,
) -> int:
    """Set a slice's activity against the zeros of every layer, and change the slice to see what it causes."""
    from gradscope.cli.settings_asked import selected_slice
    from gradscope.cli.terminal import check_outputs, complain, emit, exit_code, progress_bar
    from gradscope.cli.work import work_on
    from gradscope.errors import UsageError
    from gradscope.run import one_run, with_associations
    from gradscope.show.correlate_screen import correlate_screen
    from gradscope.show.frames import series_frame
    from gradscope.show.json_document import correlate_document
    from gradscope.show.markdown import correlate_markdown

    check_outputs(shared)
    name = "position" if positions else selected_slice(shared) or "position"
    if positions and selected_slice(shared) not in {None, "position"}:
        raise UsageError("--positions means --slice position; give one of the two.")
    work = work_on([path] if path else [], shared)
    report = work.report
    if work.opened.runs:
        with progress_bar(work.shared) as progress:
            report = with_associations(report, one_run(work.opened, shared.run), name, progress, complain)
    emit(report, work.shared, correlate_screen, correlate_document, series_frame, correlate_markdown)
    return exit_code(report, work.shared)
