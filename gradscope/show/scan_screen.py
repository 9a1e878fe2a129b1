"""The screen of ``gradscope scan``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from gradscope.records import SKIPPED_UNNAMED, Status
from gradscope.records.percent import percent
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
from gradscope.show.rows import count, plural, safe
from gradscope.show.screen import STYLES, Column, Look, Page, bar_text, new_table, status_text
from gradscope.show.why_none import add_why_none
from gradscope.show.worst_layers import add_worst_layers

if TYPE_CHECKING:
    from rich.table import Table

    from gradscope.records import Crossing, Report
    from gradscope.show.order import StepRow

BAR_WIDTH: Final = 8
FILE_COLUMN: Final = Column("file", "name", least=22)
"""Where steps repeat, their rows are told apart by it."""
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
MOST_STEPS: Final = 60
"""Rows of a step table: what fits on a few screens."""
MOST_REASONS: Final = 4
LEFT_OUT: Final = "--json and -o list them all"


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
    num_left = len(of_run(report, run)) - len(shown_rows(report, run))
    page.table(step_table(report, run, page.look))
    if num_left:
        page.line(f"and {plural(num_left, 'snapshot')} between these; {LEFT_OUT}", "dim")
    clips = [snapshot.clip_coefficient for snapshot in of_run(report, run)]
    if any(each is not None and each < 1 for each in clips):
        page.line("norm is after clipping, as the optimizer saw it; clip is the factor.", "dim")
    told = [(each, words) for each in of_run(report, run) if (words := nonfinite_words(each))]
    for snapshot, words in told[:MOST_FILES]:
        page.bullet(f"{step_words(snapshot)}: {words}")
    if len(told) > MOST_FILES:
        page.bullet(f"and {plural(len(told) - MOST_FILES, 'more snapshot')} with such values; {LEFT_OUT}")


def shown_rows(report: Report, run: str) -> list[StepRow]:
    """Rows of the step table; of very many the first, the last, those that tell, and some between."""
    rows = step_rows(report, run)
    if len(rows) <= MOST_STEPS:
        return rows
    told = [
        at for at, row in enumerate(rows) if row.first_layer or (at and row.status is not rows[at - 1].status)
    ]
    kept = {0, len(rows) - 1, *told[: MOST_STEPS // 2]}
    num_even = MOST_STEPS - len(kept)
    kept.update(round(place * (len(rows) - 1) / (num_even + 1)) for place in range(1, num_even + 1))
    return [rows[at] for at in sorted(kept)]


def step_table(report: Report, run: str, look: Look) -> Table:
    """Step, position activity, zeros with a bar, norm, clip coefficient, status, first layer to cross."""
    found = shown_rows(report, run)
    # Files stand in for steps that are not known; unlike numbers they may be shortened.
    numbers = all(row.step.replace(",", "").isdigit() for row in found)
    has_files = any(row.file for row in found)
    rows: list[tuple[str | Text, ...]] = [
        (
            row.step,
            *([row.file] if has_files else []),
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
    columns = (Column("step", "right" if numbers else "name"), *([FILE_COLUMN] if has_files else []))
    return new_table(look, (*columns, *STEP_COLUMNS), rows)


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
    skipped = skipped_words(report)
    if notes or skipped:
        page.line()
    for note in notes[:MOST_FILES]:
        page.bullet(safe(note), "dim")
    if len(notes) > MOST_FILES:
        page.bullet(f"and {plural(len(notes) - MOST_FILES, 'more note')}; --json lists them all", "dim")
    for words in skipped:
        page.bullet(safe(words), "dim")


def skipped_words(report: Report) -> list[str]:
    """One line a reason, the most frequent first; where something may be asked of the user, with a name."""
    sources: dict[str, list[str]] = {}
    for left in report.skipped:
        sources.setdefault(left.reason, []).append(left.source)
    ordered = sorted(sources.items(), key=lambda each: -len(each[1]))
    lines = []
    for reason, names in ordered[:MOST_REASONS]:
        more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        named = f"skipped {names[0]}{more}: {reason}"
        lines.append(f"{len(names):,} skipped: {reason}" if reason in SKIPPED_UNNAMED else named)
    rest = sum(len(names) for _, names in ordered[MOST_REASONS:])
    return [*lines, *([f"{rest:,} more skipped; --json says why"] if rest else [])]
