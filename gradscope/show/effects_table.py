"""What interventions on a slice did to the zeros, a row for each step and layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.records import ALL_LAYERS
from gradscope.records.percent import UNKNOWN, percent
from gradscope.show.rows import count, points, safe
from gradscope.show.screen import Column, new_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from gradscope.records import Effect
    from gradscope.show.screen import Page

MOST_ROWS: Final = 8
MARKS: Final = {"effect": " *", "unclear": " ?"}
COLUMNS: Final = {
    "flat": Column("flat"),
    "permuted": Column("permuted", drop=2),
    "rescaled": Column("rescaled", drop=1),
    "active rows": Column("active rows", drop=4),
    "inactive rows": Column("inactive rows", drop=3),
}
EFFECT_HEADS: Final = (
    "step",
    "layer",
    "intervention",
    "zeros",
    "after",
    "points",
    "95 % interval",
    "own columns",
    "verdict",
)
LEGEND: Final = (
    "Same weights, same batches: zeros of the weights outside the slice's own columns. flat: at its resting "
    "value; permuted: of another row; rescaled: at the other columns' size. * changed by 5 points or more, "
    "surely; ? not sure."
)


def add_effects(page: Page, effects: Sequence[Effect]) -> None:
    """Zeros as they are and after each intervention that could be made, and why others could not."""
    known = [each for each in effects if each.difference is not None]
    if known:
        page.heading("Interventions")
        page.table(_table(page, known))
        page.line(LEGEND, "dim")
        if words := _own_words(known):
            page.line(words, "dim")
    undone = [each for each in effects if each.difference is None and each.layer == ALL_LAYERS]
    groups: dict[str, list[Effect]] = {}
    for each in undone:
        groups.setdefault(each.reasons.get("difference", "not known"), []).append(each)
    for reason, same in groups.items():
        names = ", ".join(dict.fromkeys(each.intervention for each in same))
        steps = ", ".join(dict.fromkeys(count(each.step) for each in same))
        page.bullet(f"not done at step {steps}: {names}: {safe(reason)}", "dim")


def effect_cells(one: Effect) -> tuple[str, ...]:
    """One effect under ``EFFECT_HEADS``."""
    low, high = one.interval or (None, None)
    return (
        count(one.step),
        "all layers" if one.layer == ALL_LAYERS else one.layer,
        one.intervention,
        percent(one.zero_fraction),
        percent(one.zero_fraction_after),
        points(one.difference),
        UNKNOWN if low is None else f"{points(low)} to {points(high)}",
        points(one.mechanical_difference),
        one.verdict,
    )


def _table(page: Page, known: Sequence[Effect]) -> Table:
    """Worst layers of each step first, in the order of steps."""
    ranked = sorted(known, key=lambda each: (each.step or 0, -(each.zero_fraction or 0.0)))
    kept = _chosen(list(dict.fromkeys((each.step, each.layer) for each in ranked)))
    names = [name for name in COLUMNS if any(each.intervention == name for each in known)]
    by_place = {(each.step, each.layer, each.intervention): each for each in known}
    cells = [
        (
            count(step),
            "all layers" if layer == ALL_LAYERS else layer,
            percent(next(each.zero_fraction for each in known if (each.step, each.layer) == (step, layer))),
            *(_after(by_place.get((step, layer, name))) for name in names),
        )
        for step, layer in kept
    ]
    heads = [Column("step"), Column("layer", "name"), Column("as it is"), *(COLUMNS[name] for name in names)]
    return new_table(page.look, heads, cells)


def _chosen(rows: Sequence[tuple[int | None, str]]) -> list[tuple[int | None, str]]:
    """At most MOST_ROWS, as many of each step; all layers pooled always among them."""
    steps = list(dict.fromkeys(step for step, _ in rows))
    most = MOST_ROWS // max(len(steps), 1)
    kept = []
    for step in steps:
        own = [row for row in rows if row[0] == step]
        pooled = [row for row in own if row[1] == ALL_LAYERS]
        kept += [*[row for row in own if row[1] != ALL_LAYERS][: most - len(pooled)], *pooled]
    return kept


def _after(one: Effect | None) -> str:
    if one is None:
        return UNKNOWN
    return percent(one.zero_fraction_after) + MARKS.get(one.verdict, "")


def _own_words(known: Sequence[Effect]) -> str:
    """What each intervention did to the slice's own columns, which is no finding."""
    own = [each for each in known if each.mechanical_difference is not None]
    if not own:
        return ""
    last = max(own, key=lambda each: (each.step or 0, each.layer != ALL_LAYERS))
    same = [each for each in own if (each.step, each.layer) == (last.step, last.layer)]
    parts = ", ".join(f"{each.intervention} {points(each.mechanical_difference)}" for each in same)
    where = "all layers" if last.layer == ALL_LAYERS else safe(last.layer)
    return f"The slice's own columns ({where}, step {count(last.step)}), in points: {parts}."
