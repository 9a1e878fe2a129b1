"""The screen of ``gradscope correlate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.records import ALL_LAYERS, Status
from gradscope.records.percent import percent
from gradscope.show.effects_table import add_effects
from gradscope.show.rows import count, number, safe, sentence
from gradscope.show.screen import Column, Look, Page, bar_text, new_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from gradscope.records import Association, AssociationReport, Report, SeriesPoint

MOST_POINTS: Final = 14
MOST_LAYERS: Final = 8
BAR_WIDTH: Final = 16
WIDE: Final = 76
"""Cells from which bars have their full width."""
LAYER_HEADS: Final = ("layer", "pearson", "spearman", "p adj.", "changed", "verdict")
SERIES_COLUMNS: Final = (
    Column("step"),
    Column("active"),
    Column("", "left"),
    Column("rows"),
    Column("zeros"),
    Column("", "left"),
)


def correlate_screen(report: Report, look: Look) -> str:
    """Verdict first, then the series and the layers."""
    page = Page(look)
    page.line(f"gradscope correlate {safe(report.path)}", "bold")
    for association in report.associations:
        add_verdict(page, association)
        add_association(page, association)
    return page.text()


def add_verdict(page: Page, found: AssociationReport) -> None:
    """What goes together, in one line and its reason."""
    run = "" if found.run == "." else f"run {safe(found.run)}, "
    page.line(
        f"{run}slice {safe(found.slice)}, {count(found.num_steps)} steps from the {found.source}", "dim"
    )
    page.line()
    page.line(f"Verdict: {found.verdict}.", "bold")
    page.line(sentence(safe(found.reason)))


def add_association(page: Page, found: AssociationReport) -> None:
    """One run's series and layers, and what was not tested."""
    if any(point.activity is not None or point.zero_fraction is not None for point in found.series):
        page.heading("Activity and zeros (all layers pooled)")
        page.table(series_table(found.series, page.look))
    layers = [each for each in found.layers if each.p_value_adjusted is not None]
    if layers:
        add_layers(page, layers, found.slice)
    add_effects(page, found.effects)
    if "effects" in found.reasons:
        page.line()
        page.line(f"Not tested: {safe(found.reasons['effects'])}.", "dim")


def series_table(series: Sequence[SeriesPoint], look: Look) -> Table:
    """At most MOST_POINTS points, evenly taken, first and last among them."""
    width = BAR_WIDTH if look.width >= WIDE else BAR_WIDTH // 2
    most = min(MOST_POINTS, len(series))
    places = sorted({round(at * (len(series) - 1) / max(most - 1, 1)) for at in range(most)})
    rows = [
        (
            count(point.step),
            percent(point.activity),
            bar_text(point.activity, Status.UNKNOWN, width, look),
            count(point.num_open_positions),
            percent(point.zero_fraction),
            bar_text(point.zero_fraction, Status.CRITICAL, width, look),
        )
        for point in (series[place] for place in places)
    ]
    return new_table(look, SERIES_COLUMNS, rows)


def add_layers(page: Page, layers: list[Association], name: str) -> None:
    """Layers by how surely they go with the activity."""
    page.heading("Layers")
    ranked = sorted(layers, key=lambda each: (each.p_value_adjusted or 0, -abs(each.pearson or 0)))
    rows = [
        ("all layers" if each.name == ALL_LAYERS else each.name, *layer_cells(each))
        for each in ranked[:MOST_LAYERS]
    ]
    kinds = {"layer": "name", "verdict": "left"}
    columns = [Column(head, kinds.get(head, "right"), int(head == "spearman")) for head in LAYER_HEADS]
    page.table(new_table(page.look, columns, rows))
    if len(ranked) > MOST_LAYERS:
        page.line(f"and {len(ranked) - MOST_LAYERS} more; --json lists them all", "dim")
    page.line(
        "pearson and spearman are of the series as they are. p adj. is after detrending: "
        f"{safe(name)} activity was shifted in time to see what chance gives, "
        "corrected for the number of layers.",
        "dim",
    )


def layer_cells(found: Association) -> tuple[str, ...]:
    """One layer under ``LAYER_HEADS``, its name left out."""
    return (
        number(found.pearson),
        number(found.spearman),
        number(found.p_value_adjusted),
        count(found.change_step),
        found.verdict,
    )
