"""``gradscope scan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradscope.cli.options import Shared, analysing


@analysing
def scan(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Folders or files of a run.")],
    shared: Shared,
) -> int:
    """Measure zero gradients in every checkpoint: steps, crossings, worst layers."""
    from gradscope.cli.terminal import check_outputs, emit, exit_code
    from gradscope.cli.work import work_on
    from gradscope.show.frames import to_frame
    from gradscope.show.json_document import scan_document
    from gradscope.show.markdown import markdown
    from gradscope.show.scan_screen import scan_screen

    check_outputs(shared)
    work = work_on(paths, shared, remember=True)
    emit(work.report, work.shared, scan_screen, scan_document, to_frame, markdown)
    return exit_code(work.report, work.shared)
