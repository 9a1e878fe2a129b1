"""The screen of ``gradscope report``: one page that reads as an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from gradscope.show.answer import answer
from gradscope.show.correlate_screen import add_association
from gradscope.show.order import of_run, origin_words, run_names
from gradscope.show.rows import safe
from gradscope.show.scan_screen import add_files, add_findings, add_steps, slice_words
from gradscope.show.screen import STYLES, Look, Page
from gradscope.show.shift_screen import slice_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.records import Report

LABEL_WIDTH: Final = 11


def report_page(report: Report, look: Look, whys: Mapping[str, str] | None = None) -> str:
    """Answer first, then the tables it rests on, run by run; ``whys`` by run: what its hypotheses came to."""
    page = Page(look)
    page.line(f"gradscope report {safe(report.path)}", "bold")
    page.line(slice_words(report), "dim")
    for run in run_names(report):
        _add_run(page, report, run, (whys or {}).get(run, ""))
    add_files(page, report)
    return page.text()


def _add_run(page: Page, report: Report, run: str, why: str) -> None:
    snapshots = of_run(report, run)
    page.heading(f"{'Answer' if run == '.' else f'Run {safe(run)}'} ({origin_words(snapshots)})")
    _add_answer(page, report, run, why)
    page.heading("Steps")
    add_steps(page, report, run)
    add_findings(page, report, run)
    steps = [step for step in report.shift.steps if step.run == run] if report.shift else []
    if steps:
        page.heading("Inputs per step (shift against the first)")
        page.table(slice_table(steps, page.look))
    for found in report.associations:
        if found.run == run:
            add_association(page, found)


def _add_answer(page: Page, report: Report, run: str, why: str) -> None:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=LABEL_WIDTH, no_wrap=True, style="bold")
    grid.add_column(ratio=1, overflow="fold")
    worst = max((each.status for each in of_run(report, run)), key=lambda status: status.rank)
    for question, text in answer(report, run, safe(why)):
        style = STYLES[worst] if question == "What" else ""
        grid.add_row(question, Text(page.plain(text), style=style))
    page.table(grid)
