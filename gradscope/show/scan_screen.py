"""The screen of ``gradscope scan``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from rich.text import Text

from gradscope.records import Origin, Status
from gradscope.show.order import (
    layer_crossings,
    limit_of,
    nonfinite_words,
    of_run,
    origin_words,
    run_names,
    step_rows,
    step_words,
    worst_layers,
    worst_snapshot,
)
from gradscope.show.rows import count, kinds, percent, safe, short_layer
from gradscope.show.screen import GAP, STYLES, Look, Page, bar_text, name_text, new_table, status_text

if TYPE_CHECKING:
    from rich.table import Table

    from gradscope.records import Crossing, Report

BAR_WIDTH: Final = 8
MOST_LAYERS: Final = 6
MOST_CROSSINGS: Final = 8
MOST_FILES: Final = 8
HOW_TO_RECORD: Final = (
    "No gradients here: checkpoints alone do not hold them. Put gradscope.record.GradscopeCallback "
    "in the place of CheckpointCallback and they will."
)


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
    title = "" if run == "." and len(run_names(report)) == 1 else f"run {safe(run)}: "
    number = f"{len(snapshots)} snapshot" + ("" if len(snapshots) == 1 else "s")
    page.line(f"{title}{number}, {origin_words(snapshots)}", "dim" if not title else "")
    page.line()
    add_steps(page, report, run)
    if all(snapshot.origin is Origin.NONE for snapshot in snapshots):
        page.line()
        page.line(HOW_TO_RECORD)
        return
    add_crossings(page, report, run)
    add_worst_layers(page, report, run)


def add_steps(page: Page, report: Report, run: str) -> None:
    """The step table, and under it the gradients that hold no numbers."""
    page.table(step_table(report, run, page.look))
    for snapshot in of_run(report, run):
        if words := nonfinite_words(snapshot):
            page.bullet(f"{step_words(snapshot)}: {words}")


def step_table(report: Report, run: str, look: Look) -> Table:
    """Step, position activity, zeros with a bar, norm, clip coefficient, status, first layer to cross."""
    table = new_table(
        ("step", "right"),
        ("positions", "right"),
        ("zeros", "right"),
        ("", "left"),
        ("norm", "right"),
        ("clip", "right"),
        ("status", "left"),
        ("first to cross", "left"),
    )
    rows = step_rows(report, run)
    fixed = [
        [str(column.header), *(getattr(row, key) for row in rows)]
        for column, key in zip(
            table.columns, ("step", "activity", "zeros", "", "norm", "clip", "status"), strict=False
        )
        if key
    ]
    taken = sum(max(map(len, cells)) + GAP for cells in fixed) + BAR_WIDTH + GAP
    for row in rows:
        table.add_row(
            row.step,
            row.activity,
            row.zeros,
            bar_text(row.fraction, row.status, BAR_WIDTH, look),
            row.norm,
            row.clip,
            status_text(row.status),
            short_layer(row.first_layer, max(look.width - taken, 8), ascii_only=look.ascii_only),
        )
    return table


def add_crossings(page: Page, report: Report, run: str) -> None:
    """First step at or above each limit, worst limit first."""
    found = _worst_only(layer_crossings(report, run))
    page.heading("Crossings (first step at or above a limit)")
    if not found:
        page.line("none")
        return
    table = new_table(
        ("limit", "left"), ("at", "right"), ("step", "right"), ("zeros", "right"), ("layer", "left")
    )
    for each in found[:MOST_CROSSINGS]:
        limit = Text(each.limit, style=STYLES[Status(each.limit)])
        at = page.plain(f"≥ {percent(limit_of(report, each.layer, each.limit))}")
        room = max(page.look.width - 46, 20)
        layer = short_layer(each.layer, room, ascii_only=page.look.ascii_only)
        table.add_row(limit, at, count(each.step), percent(each.zero_fraction), layer)
    page.table(table)
    if len(found) > MOST_CROSSINGS:
        page.line(f"and {len(found) - MOST_CROSSINGS} more; --json lists them all", "dim")


def _worst_only(found: list[Crossing]) -> list[Crossing]:
    """Of several limits a layer reached at one step, the worst; ``found`` has the worst first."""
    by_step: dict[tuple[str, int | None], Crossing] = {}
    for each in found:
        by_step.setdefault((each.layer, each.step), each)
    return list(by_step.values())


def add_worst_layers(page: Page, report: Report, run: str) -> None:
    """Layers of the worst snapshot with their kinds of zeros and the fresh network's zeros."""
    snapshot = worst_snapshot(report, run)
    layers = worst_layers(snapshot.layers, MOST_LAYERS) if snapshot else []
    if snapshot is None or not layers:
        return
    page.heading(f"Worst layers at {step_words(snapshot)}")
    table = new_table(
        ("layer", "left"),
        ("zeros", "right"),
        ("fresh", "right"),
        ("status", "left"),
        ("kinds of zeros", "fill"),
    )
    room = max((page.look.width - 30) // 2, 22)
    for layer in layers:
        name = short_layer(layer.name, room, ascii_only=page.look.ascii_only)
        fresh = percent(layer.baseline_zero_fraction)
        table.add_row(
            name, percent(layer.zero_fraction), fresh, status_text(layer.status), kinds(layer.anatomy)
        )
    page.table(table)
    if any(layer.baseline_zero_fraction is None for layer in layers):
        page.line(
            "fresh ? = no fresh network of this shape to compare with; "
            "a healthy ReLU layer can have 45 % zeros.",
            "dim",
        )


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
        table = new_table(("file", "left"), ("reason", "fill"))
        for left in report.unreadable[:MOST_FILES]:
            table.add_row(name_text(left.source), Text(page.plain(safe(left.reason))))
        page.table(table)
        if len(report.unreadable) > MOST_FILES:
            page.line(f"and {len(report.unreadable) - MOST_FILES} more; --json lists them all", "dim")
    notes = [*dict.fromkeys(report.notes)]
    reasons = Counter(left.reason for left in report.skipped)
    notes.extend(f"{number} skipped: {reason}" for reason, number in reasons.items())
    if notes:
        page.line()
    for note in notes[:MOST_FILES]:
        page.bullet(safe(note), "dim")
