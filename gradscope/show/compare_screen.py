"""The screen of ``gradscope compare``: which run is worse, then steps, layers, crossings and inputs."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from rich.text import Text

from gradscope.records import CompareVerdict, Status
from gradscope.records.percent import UNKNOWN
from gradscope.show.compare_rows import (
    ABSENT,
    CROSSING_HEADS,
    LAYER_HEADS,
    SHIFT_HEADS,
    STATUS_A,
    STEP_HEADS,
    alone,
    crossing_cells,
    evenly,
    layer_cells,
    num_common,
    run_words,
    shift_cells,
    shown_crossings,
    shown_layers,
    step_cells,
)
from gradscope.show.compare_words import verdict_title
from gradscope.show.dead_words import unique_end
from gradscope.show.rows import count, plural, safe
from gradscope.show.screen import STYLES, Column, Look, Page, new_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradscope.records import Comparison

MOST_LAYERS: Final = 6
MOST_CROSSINGS: Final = 8
MOST_ALONE: Final = 4
MOST_INPUT_STEPS: Final = 5
WORSE_MEANS: Final = (
    "worse: by {points} or more, and as much beyond each run's own fresh network, in all layers together "
    "or in one that holds 1 % of the elements."
)
SHIFT_EXPLAINED: Final = (
    "shift: Wasserstein distance to that window in its standard deviations (first: that window itself); "
    "ratio: rms against the other slices' columns (above 10 is a scale mismatch)."
)
VERDICT_STYLES: Final = {
    CompareVerdict.A_WORSE: "bold red",
    CompareVerdict.B_WORSE: "bold red",
    CompareVerdict.SAME: "bold green",
    CompareVerdict.MIXED: "bold yellow",
    CompareVerdict.UNCLEAR: "bold magenta",
    CompareVerdict.NOT_COMPARABLE: "bold magenta",
}
DROPPED: Final = {
    **dict.fromkeys(("clip A", "clip B"), 4),
    **dict.fromkeys(("positions A", "positions B"), 3),
    **dict.fromkeys(("norm A", "norm B"), 1),
    "95 % interval": 1,
    "parts at": 2,
}
SHIFT_DROPPED: Final = {
    **dict.fromkeys(("status A", "status B"), 2),
    **dict.fromkeys(("active A", "active B"), 1),
}
STATUSES: Final = {status.value: status for status in Status}


def compare_screen(found: Comparison, look: Look) -> str:
    """Verdict first; then what it rests on, and what bounds it."""
    page = Page(look)
    page.line(f"gradscope compare {safe(found.a.path)} {safe(found.b.path)}", "bold")
    page.line(run_words("A", found.a), "dim")
    page.line(run_words("B", found.b), "dim")
    page.line()
    page.line(f"Verdict: {verdict_title(found.verdict)}.", VERDICT_STYLES[found.verdict])
    page.line(safe(found.reason))
    for text in found.warnings:
        page.bullet(safe(text))
    if found.a.num_snapshots and found.b.num_snapshots:
        _add_tables(page, found)
    if found.notes:
        page.line()
    for text in found.notes:
        page.bullet(safe(text), "dim")
    return page.text()


def _add_tables(page: Page, found: Comparison) -> None:
    _add_steps(page, found)
    _add_layers(page, found)
    _add_crossings(page, found)
    _add_shift(page, found)


def _add_steps(page: Page, found: Comparison) -> None:
    page.line()
    rows = [_colored(step_cells(step)) for step in found.steps]
    numbers = all(row[0].plain.replace(",", "").isdigit() for row in rows)
    columns = _columns(STEP_HEADS, DROPPED, "" if numbers else "step")
    page.table(new_table(page.look, columns, rows))
    page.line(WORSE_MEANS.format(points=f"{100 * found.margin:g} points"), "dim")
    signs = []
    if any(step.a is None or step.b is None for step in found.steps):
        signs.append(f"{ABSENT} = no snapshot of this step")
    if any(cell.plain == UNKNOWN for row in rows for cell in row[:STATUS_A]):
        signs.append(f"{UNKNOWN} = not known, which is not 0")
    if signs:
        page.line(f"{'; '.join(signs)}.", "dim")


def _add_layers(page: Page, found: Comparison) -> None:
    in_both, others = num_common(found), alone(found)
    if not found.layers:
        return
    shown = shown_layers(found)
    steps = {layer.step for layer in found.layers if layer.step is not None}
    page.heading(f"Layers at the last common step, {count(max(steps))}" if steps else "Layers")
    if shown:
        columns = _columns(LAYER_HEADS, DROPPED, "layer")
        rows = [_colored(layer_cells(layer, point)) for layer, point in shown[:MOST_LAYERS]]
        if not any(point.interval for _, point in shown):
            at = LAYER_HEADS.index("95 % interval")
            columns = columns[:at] + columns[at + 1 :]
            rows = [row[:at] + row[at + 1 :] for row in rows]
        page.table(new_table(page.look, columns, rows))
        if len(shown) > MOST_LAYERS:
            page.line(f"and {len(shown) - MOST_LAYERS} more; --json lists them all", "dim")
    same = in_both - len(shown)
    if words := _same_words(found, same, in_both):
        page.line(words, "dim" if shown else "")
    names = [layer.name for layer in found.layers]
    for letter, own in others.items():
        if own:
            listed = ", ".join(safe(_ending(name, names)) for name in own[:MOST_ALONE])
            more = f" and {len(own) - MOST_ALONE} more" if len(own) > MOST_ALONE else ""
            page.bullet(f"only {letter} has {listed}{more}")


def _ending(name: str, names: Sequence[str]) -> str:
    """The last three parts of a layer's name, more where others end alike."""
    return max(unique_end(name, names), ".".join(name.split(".")[-3:]), key=len)


def _same_words(found: Comparison, same: int, in_both: int) -> str:
    """How many of the layers that both have are alike, and how many unknown; empty where none is either."""
    unknown = sum(
        layer.verdict is CompareVerdict.NOT_COMPARABLE and None not in {layer.shape_a, layer.shape_b}
        for layer in found.layers
    )
    alike, of = same - unknown, f"of {plural(in_both, 'common layer')}"
    if not alike:
        return f"Not known: {unknown} {of}." if unknown else ""
    return f"No difference that counts: {alike} {of}{f'; not known: {unknown}' if unknown else ''}."


def _add_crossings(page: Page, found: Comparison) -> None:
    shown = shown_crossings(found)
    page.heading("Crossings (first step at or above a limit)")
    if not shown:
        page.line("none in A or B" if found.a.num_measured and found.b.num_measured else "none known")
        return
    rows = [_colored(crossing_cells(each)) for each in shown[:MOST_CROSSINGS]]
    kinds = {"limit": "left", "layer": "name"}
    page.table(
        new_table(page.look, [Column(head, kinds.get(head, "right")) for head in CROSSING_HEADS], rows)
    )
    if len(shown) > MOST_CROSSINGS:
        page.line(f"and {len(shown) - MOST_CROSSINGS} more; --json lists them all", "dim")


def _add_shift(page: Page, found: Comparison) -> None:
    page.heading("Inputs (shift: each run against its own first window)")
    if not found.shift:
        page.line(f"Not compared: {safe(found.reasons.get('shift', 'no inputs'))}.")
        return
    rows = []
    by_step = [[*slices] for _, slices in groupby(found.shift, key=lambda each: each.step)]
    for slices in evenly(by_step, MOST_INPUT_STEPS):
        for place, each in enumerate(slices):
            step, *cells = shift_cells(each)
            rows.append(_colored(["" if place else step, *cells]))
    page.table(new_table(page.look, _columns(SHIFT_HEADS, SHIFT_DROPPED, "slice"), rows))
    if len(by_step) > MOST_INPUT_STEPS:
        page.line(f"{MOST_INPUT_STEPS} of {len(by_step)} steps; --json lists them all", "dim")
    page.line(SHIFT_EXPLAINED, "dim")


def _columns(heads: Sequence[str], dropped: dict[str, int], name: str) -> list[Column]:
    """Columns that are ``name``s may be shortened; statuses and verdicts stand left, numbers right."""
    left = {"status A", "status B", "worse"}
    return [
        Column(head, "name" if head == name else "left" if head in left else "right", dropped.get(head, 0))
        for head in heads
    ]


def _colored(cells: Sequence[str]) -> list[Text]:
    """Statuses in their colors."""
    return [Text(safe(cell), style=STYLES[STATUSES[cell]] if cell in STATUSES else "") for cell in cells]
