"""The screen of ``gradscope shift``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.records import ShiftReport, Status
from gradscope.show.rows import count, number, percent, safe
from gradscope.show.screen import Look, Page, new_table, status_text

if TYPE_CHECKING:
    from rich.table import Table

    from gradscope.records import Report, StepShift

MOST_COLUMNS: Final = 8


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
    page.table(slice_table(steps))
    page.line(
        "shift: Wasserstein distance to the reference in its standard deviations, mean over columns; "
        "ratio: rms against the median column of the other slices (above 10 is a scale mismatch)",
        "dim",
    )
    add_columns(page, steps)
    for note in dict.fromkeys(note for step in steps for note in step.notes):
        page.bullet(safe(note), "dim")
    truncated = [count(step.step) for step in steps if step.window_truncated]
    if truncated:
        page.bullet(f"the buffer no longer holds the whole window at step {', '.join(truncated)}", "dim")


def slice_table(steps: list[StepShift]) -> Table:
    """One line a step and slice."""
    table = new_table(
        ("step", "right"),
        ("rows", "right"),
        ("slice", "left"),
        ("active", "right"),
        ("shift", "right"),
        ("shifted", "right"),
        ("rms", "right"),
        ("ratio", "right"),
        ("status", "left"),
    )
    for step in steps:
        for place, each in enumerate(step.slices):
            first = place == 0
            table.add_row(
                count(step.step) if first else "",
                count(step.num_rows) if first else "",
                safe(each.name),
                percent(each.activity),
                number(each.wasserstein),
                percent(each.fraction_shifted),
                number(each.rms),
                number(each.rms_ratio),
                status_text(each.status) if not step.is_reference else "reference",
            )
    return table


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
    table = new_table(
        ("column", "fill"),
        ("active before", "right"),
        ("now", "right"),
        ("shift", "right"),
        ("rms before", "right"),
        ("now", "right"),
    )
    for _, column in moved[:MOST_COLUMNS]:
        table.add_row(
            safe(column.name or str(column.index)),
            percent(column.active_fraction_reference),
            percent(column.active_fraction),
            number(column.wasserstein),
            number(column.rms_reference),
            number(column.rms),
        )
    page.table(table)
