"""The screen of ``gradscope scan``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from rich.text import Text

from gradscope.records import Status
from gradscope.show.evidence_screen import add_evidence
from gradscope.show.order import (
    layer_crossings,
    limit_of,
    nonfinite_words,
    of_run,
    origin_words,
    run_names,
    step_rows,
    step_words,
)
from gradscope.show.rows import count, percent, safe
from gradscope.show.screen import STYLES, Column, Look, Page, bar_text, new_table, status_text
from gradscope.show.why_none import add_why_none
from gradscope.show.worst_layers import add_worst_layers

if TYPE_CHECKING:
    from rich.table import Table

    from gradscope.records import Crossing, Report

BAR_WIDTH: Final = 8
STEP_COLUMNS: Final = (
    Column("positions"),
    Column("zeros"),
    Column("", "left", drop=4),
    Column("norm", drop=1),
    Column("clip", drop=2),
    Column("status", "left"),
    Column("first to cross", "name", drop=3),
)
CROSSING_COLUMNS: Final = (
    Column("limit", "left"),
    Column("at"),
    Column("step"),
    Column("zeros"),
    Column("layer", "name"),
)
MOST_CROSSINGS: Final = 8
MOST_FILES: Final = 8


def scan_screen(report: Report, look: Look) -> str:
    """Step table, crossings, worst layers and files of every run, as text."""
    page = Page(look)
    page.line(f"gradscope scan {safe(report.path)}", "bold")
    page.line(slice_words(report), "dim")
    for run in run_names(report):
        add_run(page, report, run)
    add_files(page, report)
    return page.text()


def add_run(page: Page, report: Report, run: str) -> None:
    """Everything about one run."""
    snapshots = of_run(report, run)
    if run != run_names(report)[0]:
        page.line()
    title = "" if run == "." and len(run_names(report)) == 1 else f"run {safe(run)}: "
    number = f"{len(snapshots)} snapshot" + ("" if len(snapshots) == 1 else "s")
    page.line(f"{title}{number}, {origin_words(snapshots)}", "dim" if not title else "")
    page.line()
    add_steps(page, report, run)
    add_findings(page, report, run)


def add_findings(page: Page, report: Report, run: str) -> None:
    """Why gradients are missing, crossings and worst layers; without any gradient what optimizers tell."""
    add_why_none(page, report, run)
    if any(snapshot.zero_fraction is not None for snapshot in of_run(report, run)):
        add_crossings(page, report, run)
        add_worst_layers(page, report, run)
    else:
        add_evidence(page, report, run)


def add_steps(page: Page, report: Report, run: str) -> None:
    """The step table, and under it the gradients that hold no numbers."""
    page.table(step_table(report, run, page.look))
    clips = [snapshot.clip_coefficient for snapshot in of_run(report, run)]
    if any(each is not None and each < 1 for each in clips):
        page.line("norm is after clipping, as the optimizer saw it; clip is the factor.", "dim")
    for snapshot in of_run(report, run):
        if words := nonfinite_words(snapshot):
            page.bullet(f"{step_words(snapshot)}: {words}")


def step_table(report: Report, run: str, look: Look) -> Table:
    """Step, position activity, zeros with a bar, norm, clip coefficient, status, first layer to cross."""
    found = step_rows(report, run)
    # Files stand in for steps that are not known; unlike numbers they may be shortened.
    numbers = all(row.step.replace(",", "").isdigit() for row in found)
    rows = [
        (
            row.step,
            row.activity,
            row.zeros,
            bar_text(row.fraction, row.status, BAR_WIDTH, look),
            row.norm,
            row.clip,
            status_text(row.status),
            row.first_layer,
        )
        for row in found
    ]
    return new_table(look, (Column("step", "right" if numbers else "name"), *STEP_COLUMNS), rows)


def add_crossings(page: Page, report: Report, run: str) -> None:
    """First step at or above each limit, worst limit first."""
    found = _worst_only(layer_crossings(report, run))
    page.heading("Crossings (first step at or above a limit)")
    if not found:
        page.line("none")
        return
    rows = [
        (
            Text(each.limit, style=STYLES[Status(each.limit)]),
            f"≥ {percent(limit_of(report, each.layer, each.limit))}",
            count(each.step),
            percent(each.zero_fraction),
            each.layer,
        )
        for each in found[:MOST_CROSSINGS]
    ]
    page.table(new_table(page.look, CROSSING_COLUMNS, rows))
    if len(found) > MOST_CROSSINGS:
        page.line(f"and {len(found) - MOST_CROSSINGS} more; --json lists them all", "dim")


def _worst_only(found: list[Crossing]) -> list[Crossing]:
    """Of several limits a layer reached at one step, the worst; ``found`` has the worst first."""
    by_step: dict[tuple[str, int | None], Crossing] = {}
    for each in found:
        by_step.setdefault((each.layer, each.step), each)
    return list(by_step.values())


def slice_words(report: Report) -> str:
    """One line on slices and limits."""
    parts = [f"{safe(name)} = {safe(columns)}" for name, columns in report.slices.items()]
    slices = f"slices ({report.slices_from}): {'; '.join(parts)}" if parts else "slices: not known"
    limits = ", ".join(f"{name} {percent(limit)}" for name, limit in report.limits.items())
    return f"{slices} · limits: {limits} · zero: |g| <= {report.zero_tolerance:g}"


def add_files(page: Page, report: Report) -> None:
    """What could not be read, and notes; skipped files only as a number."""
    if report.unreadable:
        page.heading(f"Could not be read ({len(report.unreadable)})")
        rows = [(left.source, left.reason) for left in report.unreadable[:MOST_FILES]]
        page.table(new_table(page.look, (Column("file", "text"), Column("reason", "text")), rows))
        if len(report.unreadable) > MOST_FILES:
            page.line(f"and {len(report.unreadable) - MOST_FILES} more; --json lists them all", "dim")
    notes = [*dict.fromkeys(report.notes)]
    reasons = Counter(left.reason for left in report.skipped)
    notes.extend(f"{number} skipped: {reason}" for reason, number in reasons.items())
    if notes:
        page.line()
    for note in notes[:MOST_FILES]:
        page.bullet(safe(note), "dim")
