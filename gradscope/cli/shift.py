"""``gradscope shift``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from gradscope.cli.options import PathArgument, Shared, analysing


@analysing
def shift(
    path: PathArgument = None,
    reference: Annotated[
        str | None, typer.Option(metavar="STEP", help="Compare with this step; default the earliest.")
    ] = None,
    *,
    shared: Shared,
) -> int:
    """Compare the inputs of every step with the first: positions against market."""
    from gradscope.cli.settings_asked import bare_slices
    from gradscope.cli.terminal import check_outputs, emit, exit_code
    from gradscope.cli.work import work_on
    from gradscope.run import only_slices, with_shift
    from gradscope.show.frames import shift_frame
    from gradscope.show.json_document import shift_document
    from gradscope.show.markdown import shift_markdown
    from gradscope.show.shift_screen import shift_screen

    check_outputs(shared)
    work = work_on([path] if path else [], shared, recompute=shared.fail_on is not None)
    report = only_slices(with_shift(work.report, work.opened, reference), bare_slices(shared))
    emit(report, work.shared, shift_screen, shift_document, shift_frame, shift_markdown)
    # Gradients are not what this command shows.
    return exit_code(report, replace(work.shared, model=None, replay=None))
