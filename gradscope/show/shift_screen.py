"""The screen of ``gradscope shift``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.records import ShiftReport, Status
from gradscope.records.percent import percent
from gradscope.show.rows import count, number, safe
from gradscope.show.screen import Column, Look, Page, new_table, status_text

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from gradscope.records import Report, SliceShift, StepShift

MOST_COLUMNS: Final = 8
SLICE_HEADS: Final = ("step", "rows", "slice", "active", "shift", "shifted", "rms", "ratio", "status")
DROPPED: Final = {"rms": 3, "shifted": 2, "rows": 1}
"""What a narrow screen leaves out of the slice table, the highest first."""
MOVED_COLUMNS: Final = (
    Column("column", "name", least=30),
    Column("active: was"),
    Column("now"),
    Column("shift"),
    Column("rms: was", drop=1),
    Column("now", drop=2),
)
EXPLAINED: Final = (
    "shift: Wasserstein distance to the reference in its standard deviations, mean over columns; "
    "shifted: share of columns moved by 0.25 or more and significantly so, corrected for rows that "
    "resemble their neighbours and for the number of tests; "
    "ratio: rms against the median column of the other slices (above 10 is a scale mismatch)"
)


def shift_screen(report: Report, look: Look) -> str:
    """Slices per step against the reference, then the columns that moved most."""
    page = Page(look)
    page.line(f"gradscope shift {safe(report.path)}", "bold")
    shift = report.shift or ShiftReport()
    words = "; ".join(f"{safe(name)} = {safe(columns)}" for name, columns in shift.slices.items())
    page.line(f"slices ({shift.slices_from}): {words}" if words else "slices: not known", "dim")
    for run, reason in shift.reasons.items():
        which = "" if run == "." else f"run {safe(run)}: "
        page.line(f"{which}no shift: {safe(reason)}")
    for run in dict.fromkeys(step.run for step in shift.steps):
        add_run_shift(page, [step for step in shift.steps if step.run == run])
    return page.text()


def add_run_shift(page: Page, steps: list[StepShift]) -> None:
    """One run: the slice table, the worst columns of its last shifted step, notes."""
    reference = next(step for step in steps if step.is_reference)
    run = "" if reference.run == "." else f"run {safe(reference.run)}, "
    page.heading(f"{run}reference: step {count(reference.step)}, {count(reference.num_rows)} rows")
    page.table(slice_table(steps, page.look))
    page.line(EXPLAINED, "dim")
    add_columns(page, steps)
    for note in dict.fromkeys(note for step in steps for note in step.notes):
        page.bullet(safe(note), "dim")
    truncated = [count(step.step) for step in steps if step.window_truncated]
    if truncated:
        page.bullet(f"the buffer no longer holds the whole window at step {', '.join(truncated)}", "dim")


def slice_table(steps: list[StepShift], look: Look) -> Table:
    """One line a step and slice; step and rows only once a step."""
    rows: list[list[str | Text]] = []
    for step in steps:
        for place, each in enumerate(step.slices):
            cells: list[str | Text] = [*slice_cells(step, each)]
            if place:
                cells[:2] = "", ""
            if not step.is_reference:
                cells[-1] = status_text(each.status)
            rows.append(cells)
    kinds = {"slice": "name", "status": "left"}
    columns = [Column(head, kinds.get(head, "right"), DROPPED.get(head, 0)) for head in SLICE_HEADS]
    return new_table(look, columns, rows)


def slice_cells(step: StepShift, found: SliceShift) -> tuple[str, ...]:
    """One slice at one step under ``SLICE_HEADS``."""
    return (
        count(step.step),
        count(step.num_rows),
        found.name,
        percent(found.activity),
        number(found.wasserstein),
        percent(found.fraction_shifted),
        number(found.rms),
        number(found.rms_ratio),
        "reference" if step.is_reference else found.status.value,
    )


def add_columns(page: Page, steps: list[StepShift]) -> None:
    """The columns that moved most at the step with the largest shift."""
    later = [step for step in steps if not step.is_reference]
    if not later:
        page.line("Only one step has inputs: there is nothing to compare.")
        return
    worst = max(later, key=lambda step: max((each.wasserstein or 0 for each in step.slices), default=0))
    moved = [
        (each, column)
        for each in worst.slices
        for column in each.columns
        if (column.wasserstein or 0) > 0 and each.status is not Status.OK
    ]
    moved.sort(key=lambda pair: -(pair[1].wasserstein or 0))
    if not moved:
        return
    page.heading(f"Columns that moved most, step {count(worst.step)}")
    rows = [
        (
            column.name or str(column.index),
            percent(column.active_fraction_reference),
            percent(column.active_fraction),
            number(column.wasserstein),
            number(column.rms_reference),
            number(column.rms),
        )
        for _, column in moved[:MOST_COLUMNS]
    ]
    page.table(new_table(page.look, MOVED_COLUMNS, rows))
