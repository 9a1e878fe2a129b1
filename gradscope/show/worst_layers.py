"""The layers of the worst snapshot: zeros, those beyond a fresh network's, and their kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.records.percent import percent
from gradscope.show.dead_words import dead_words, unique_end
from gradscope.show.order import step_words, unexpected, worst_layers, worst_snapshot
from gradscope.show.rows import kinds, points
from gradscope.show.screen import Column, Page, new_table, status_text

if TYPE_CHECKING:
    from rich.text import Text

    from gradscope.records import LayerGradient, Report

COLUMNS: Final = (
    Column("layer", "name"),
    Column("zeros"),
    Column("95 % interval", drop=2),
    Column("fresh"),
    Column("beyond", drop=1),
    Column("status", "left"),
    Column("kinds of zeros", "text", least=20),
)
INTERVAL: Final = 2
MOST_LAYERS: Final = 6


def add_worst_layers(page: Page, report: Report, run: str) -> None:
    """Layers of the worst snapshot with their kinds of zeros and the fresh network's zeros."""
    snapshot = worst_snapshot(report, run)
    layers = worst_layers(snapshot.layers, MOST_LAYERS) if snapshot else []
    if snapshot is None or not layers:
        return
    page.heading(f"Worst layers at {step_words(snapshot)}")
    kept = [at for at in range(len(COLUMNS)) if at != INTERVAL or any(each.interval for each in layers)]
    rows = [[row[at] for at in kept] for row in (_row(each, snapshot.num_batches) for each in layers)]
    page.table(new_table(page.look, [COLUMNS[at] for at in kept], rows))
    names = [each.name for each in snapshot.layers]
    for layer in layers:
        if words := dead_words(layer, snapshot.layers):
            page.bullet(f"{unique_end(layer.name, names)}: {words}", "dim")
    if any(layer.anatomy and layer.anatomy.expected for layer in layers):
        page.line("zeros and fresh leave expected zeros out, as the status does.", "dim")
    if any(layer.baseline_zero_fraction is None for layer in layers):
        page.line(
            "fresh ? = no fresh network of this shape to compare with; "
            "a healthy ReLU layer can have 45 % zeros.",
            "dim",
        )


def _row(layer: LayerGradient, num_batches: int | None) -> list[str | Text]:
    zeros, fresh = unexpected(layer), layer.baseline_zero_fraction
    return [
        layer.name,
        percent(zeros),
        _interval(layer),
        percent(fresh),
        points(None if zeros is None or fresh is None else zeros - fresh),
        status_text(layer.status),
        kinds(layer.anatomy, num_batches),
    ]


def _interval(layer: LayerGradient) -> str:
    """Of the zeros shown: expected ones are in the interval that was measured, but not in the column."""
    if layer.interval is None or (layer.anatomy and layer.anatomy.expected):
        return "?"
    return " to ".join(percent(each).removesuffix(" %") for each in layer.interval)
