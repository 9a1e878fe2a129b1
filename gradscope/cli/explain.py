"""``gradscope explain``."""

from __future__ import annotations

from typing import Annotated

import typer

from gradscope.cli.options import PathArgument, Shared, analysing


@analysing
def explain(
    path: PathArgument = None,
    step: Annotated[
        int | None, typer.Option("--step", metavar="N", help="The snapshot of this step; default the worst.")
    ] = None,
    *,
    shared: Shared,
) -> int:
    """Test ten hypotheses on one snapshot's zeros: supported, rejected or not testable, and what to do."""
    from gradscope.cli.settings_asked import selected_slice
    from gradscope.cli.terminal import check_outputs, complain, emit, exit_code, progress_bar
    from gradscope.cli.work import work_on
    from gradscope.run import check_slices, one_run, with_shift
    from gradscope.run.explain import explanation
    from gradscope.show.explain_document import explain_document, explain_frame, explain_markdown
    from gradscope.show.explain_screen import explain_screen

    check_outputs(shared)
    name = selected_slice(shared) or "position"
    work = work_on([path] if path else [], shared)
    report, found = work.report, None
    check_slices(work.opened, [name])
    if report.snapshots:
        opened = one_run(work.opened, shared.run)
        report = with_shift(report, opened)
        with progress_bar(shared) as progress:
            found = explanation(report, opened, step=step, name=name, announce=complain, progress=progress)
    emit(
        report,
        work.shared,
        lambda shown, look: explain_screen(shown, found, look, name),
        lambda shown: explain_document(shown, found),
        lambda _: explain_frame(found),
        lambda shown: explain_markdown(shown, found, name),
    )
    return exit_code(report, work.shared)
