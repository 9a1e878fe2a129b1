"""The screen of ``gradscope correlate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.records import ALL_LAYERS, Status
from gradscope.show.rows import count, number, percent, safe, sentence, short_layer
from gradscope.show.screen import Look, Page, bar_text, new_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from gradscope.records import Association, AssociationReport, Report, SeriesPoint

MOST_POINTS: Final = 14
MOST_LAYERS: Final = 8
BAR_WIDTH: Final = 16


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
    if "effects" in found.reasons:
        page.line()
        page.line(f"Not tested: {found.reasons['effects']}.", "dim")


def series_table(series: Sequence[SeriesPoint], look: Look) -> Table:
    """At most MOST_POINTS points, evenly taken, first and last among them."""
    table = new_table(
        ("step", "right"),
        ("active", "right"),
        ("", "left"),
        ("rows", "right"),
        ("zeros", "right"),
        ("", "left"),
    )
    most = min(MOST_POINTS, len(series))
    places = sorted({round(at * (len(series) - 1) / max(most - 1, 1)) for at in range(most)})
    for point in (series[place] for place in places):
        table.add_row(
            count(point.step),
            percent(point.activity),
            bar_text(point.activity, Status.UNKNOWN, BAR_WIDTH, look),
            count(point.num_open_positions),
            percent(point.zero_fraction),
            bar_text(point.zero_fraction, Status.CRITICAL, BAR_WIDTH, look),
        )
    return table


def add_layers(page: Page, layers: list[Association], name: str) -> None:
    """Layers by how surely they go with the activity."""
    page.heading("Layers")
    ranked = sorted(layers, key=lambda each: (each.p_value_adjusted or 0, -abs(each.pearson or 0)))
    table = new_table(
        ("layer", "left"),
        ("pearson", "right"),
        ("spearman", "right"),
        ("p adj.", "right"),
        ("changed at", "right"),
        ("verdict", "left"),
    )
    room = max(page.look.width - 58, 20)
    for each in ranked[:MOST_LAYERS]:
        layer = "all layers" if each.name == ALL_LAYERS else each.name
        table.add_row(
            short_layer(layer, room, ascii_only=page.look.ascii_only),
            number(each.pearson),
            number(each.spearman),
            number(each.p_value_adjusted),
            count(each.change_step),
            each.verdict,
        )
    page.table(table)
    if len(ranked) > MOST_LAYERS:
        page.line(f"and {len(ranked) - MOST_LAYERS} more; --json lists them all", "dim")
    page.line(
        f"Correlated after detrending; {safe(name)} activity was shifted in time to see what chance gives, "
        "corrected for the number of layers.",
        "dim",
    )
