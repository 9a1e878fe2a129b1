"""The screen of ``gradscope try``: which remedy helps on this run, by how much, and what was not tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from gradscope.records import TrialVerdict
from gradscope.records.percent import UNKNOWN, percent
from gradscope.show.rows import count, number, plural, points, safe, sentence
from gradscope.show.screen import Column, Page, new_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradscope.records import Report, Trial, TrialCrossing, TryReport
    from gradscope.show.screen import Look

NONE: Final = "none"
NOT_MOVED: Final = (
    "No new environment steps were taken: the rows are those that the run collected. What the agent would "
    "have done with other weights needs a new training."
)
FIXED_ROWS: Final = (
    "Trained on the rows given and no others: what a whole training with a remedy ends in needs a new one."
)
LEGEND: Final = (
    "zeros: of all weights outside the slice's own columns, expected ones apart, over the last quarter of "
    "the gradient steps; the curve goes from 0 (lowest) to 100 %. 95 % interval: in points, over seeds. "
    "no effect: it lies within 5 points."
)
INPUTS: Final = ("slice-normalizer", "input-layer-norm")
JUMP: Final = "a norm in front meets weights that were trained without it: its harm may be that jump alone"
STYLES: Final = {
    TrialVerdict.HELPS: "bold green",
    TrialVerdict.NO_EFFECT: "",
    TrialVerdict.HARMS: "bold red",
    TrialVerdict.UNCLEAR: "magenta",
}
ORDER: Final = (TrialVerdict.HELPS, TrialVerdict.HARMS, TrialVerdict.UNCLEAR, TrialVerdict.NO_EFFECT)
WORDS: Final = {
    TrialVerdict.HELPS: ("helps", "help"),
    TrialVerdict.HARMS: ("harms", "harm"),
    TrialVerdict.UNCLEAR: ("is not clear", "are not clear"),
    TrialVerdict.NO_EFFECT: ("changes less than 5 points", "change less than 5 points"),
}
TELLING: Final = (TrialVerdict.HELPS, TrialVerdict.HARMS)
"""Verdicts with the zeros that are left behind each name."""
MOST_LAYERS: Final = 4
SHOWN_FROM: Final = 0.05
"""Difference of a layer's zeros that is worth a row."""
CURVE: Final = 13
"""With the longest verdict the table is 80 wide."""
BLOCKS: Final = "▁▂▃▄▅▆▇█"
PLAIN_BLOCKS: Final = "_.-=+*%#"
_CUT: Final = 1e-9
"""A full curve stays on the highest block."""


def try_screen(report: TryReport, look: Look, scanned: Report) -> str:
    """The answer, a row for each remedy, the layers that differ most, what of ``scanned`` was unreadable."""
    page = Page(look)
    page.line(f"gradscope try {safe(scanned.path)}", "bold")
    page.line(_subject(report))
    page.line()
    page.line(answer(report), "bold")
    page.line()
    page.table(new_table(look, _columns(), [_row(each, look) for each in report.trials]))
    page.line(LEGEND, "dim")
    _add_layers(page, report)
    _add_notes(page, report)
    for each in scanned.unreadable:
        page.bullet(f"could not be read: {safe(each.source)}: {safe(each.reason)}", "yellow")
    page.line(limits_of(report), "dim")
    return page.text()


def answer(report: TryReport) -> str:
    """Which remedies help, and how far; in one or two sentences."""
    base = baseline(report)
    if base is None or base.zero_fraction is None:
        return "Nothing can be said: the training as it was gave no finite gradients."
    start = f"Unchanged, {percent(base.zero_fraction)} of zeros at the end."
    parts = []
    for verdict in ORDER:
        same = [each for each in report.trials if each.verdict is verdict]
        if not same:
            continue
        same.sort(key=lambda each: each.zero_fraction if each.zero_fraction is not None else 1.0)
        # How far each helps: from a half to a third of zeros is help and no cure.
        shown = [
            f"{each.remedy} ({percent(each.zero_fraction)})" if verdict in TELLING else each.remedy
            for each in same
        ]
        listed = ", ".join(shown)
        parts.append(f"{listed} {WORDS[verdict][len(same) > 1]}")
    return f"{start} {sentence('; '.join(parts))}." if parts else start


def limits_of(report: TryReport) -> str:
    """What no trial can say."""
    return NOT_MOVED if report.rows_per_update else FIXED_ROWS


def baseline(report: TryReport) -> Trial | None:
    """The training as it was."""
    return next((each for each in report.trials if each.remedy == NONE), None)


def crossing_words(crossings: Sequence[TrialCrossing]) -> str:
    """The first collapse, else the first critical, of any layer."""
    for limit in ("collapse", "critical"):
        same = [each for each in crossings if each.limit == limit]
        if same:
            first = min(same, key=lambda each: each.gradient_step)
            return f"{limit} at {count(first.gradient_step)}"
    return "never"


def sparkline(fractions: Sequence[float | None], width: int, *, ascii_only: bool) -> str:
    """A curve of ``width`` cells between 0 and 1; unknown is a blank."""
    blocks = PLAIN_BLOCKS if ascii_only else BLOCKS
    size = len(fractions)
    if not size:
        return ""
    chosen = [fractions[at * size // min(width, size)] for at in range(min(width, size))]
    return "".join(" " if each is None else blocks[int(min(each, 1 - _CUT) * len(blocks))] for each in chosen)


def _subject(report: TryReport) -> str:
    run = "" if report.run == "." else f"run {safe(report.run)}, "
    until = f" up to step {count(report.to_step)}" if report.to_step > report.from_step else ""
    order = " in order of collection" if report.rows_per_update else ""
    seeds = max((each.num_seeds for each in report.trials), default=0)
    columns = f"slice {safe(report.slice)} ({report.slices_from or 'not known'})"
    return (
        f"{run}from step {count(report.from_step)}: {plural(report.gradient_steps, 'gradient step')} of "
        f"{report.batch_size} rows{order}{until}, {plural(seeds, 'seed')}; {columns}"
    )


def _columns() -> list[Column]:
    return [
        Column("remedy", "left"),
        Column("zeros"),
        Column("over time", "left", drop=2),
        Column("points"),
        Column("95 % interval", drop=1),
        Column("limits crossed", "left", drop=3),
        Column("loss", drop=4),
        Column("verdict", "left"),
    ]


def _row(each: Trial, look: Look) -> list[str | Text]:
    low, high = each.interval or (None, None)
    curve = sparkline([point.zero_fraction for point in each.series], CURVE, ascii_only=look.ascii_only)
    verdict = "" if each.remedy == NONE else "not tried" if each.verdict is None else each.verdict.value
    return [
        each.remedy,
        percent(each.zero_fraction),
        Text(curve),
        "" if each.remedy == NONE else points(each.difference),
        "" if each.remedy == NONE else UNKNOWN if low is None else f"{points(low)} to {points(high)}",
        crossing_words(each.crossings) if each.series else UNKNOWN,
        number(each.loss),
        Text(verdict, style=STYLES.get(each.verdict, "magenta") if each.verdict else "magenta"),
    ]


def _add_layers(page: Page, report: TryReport) -> None:
    """Layers whose zeros differ most from the training as it was."""
    base = baseline(report)
    known = [each for each in report.trials if each.remedy != NONE and each.layers]
    if base is None or not known:
        return
    rows = {layer.name: [percent(layer.zero_fraction)] for layer in base.layers}
    most: dict[str, float] = dict.fromkeys(rows, 0.0)
    for trial in known:
        by_name = {layer.name: layer for layer in trial.layers}
        for name, cells in rows.items():
            layer = by_name.get(name)
            cells.append(percent(layer.zero_fraction) if layer else UNKNOWN)
            most[name] = max(most[name], abs(layer.difference or 0.0) if layer else 0.0)
    shown = sorted((name for name in rows if most[name] >= SHOWN_FROM), key=lambda name: -most[name])
    if not shown:
        return
    page.heading("Zeros of the layers that differ most")
    heads = [Column("layer", "name"), Column(NONE), *_short(known)]
    page.table(new_table(page.look, heads, [[name, *rows[name]] for name in shown[:MOST_LAYERS]]))


def _short(trials: Sequence[Trial]) -> list[Column]:
    """One word a remedy, those without effect are the first to go."""
    names = {
        "slice-normalizer": "normalizer",
        "input-layer-norm": "layer norm",
        "slice-gradient-scale": "gradients",
        "slice-learning-rate": "slice rate",
        "activity-learning-rate": "activity",
        "recycle-dead-units": "recycled",
    }
    # Each its own rank, the smallest difference goes first.
    ranked = sorted(trials, key=lambda each: -abs(each.difference or 0.0))
    return [Column(names.get(each.remedy, each.remedy), drop=1 + ranked.index(each)) for each in trials]


def _add_notes(page: Page, report: TryReport) -> None:
    page.line()
    if report.is_interrupted:
        page.bullet(f"interrupted: of {plural(report.num_seeds, 'seed')} only what is shown was finished")
    for each in report.trials:
        for key in ("note", "loss"):
            if key in each.reasons:
                page.bullet(f"{each.remedy}: {safe(each.reasons[key])}", "dim")
    for reason, names in _not_tried(report).items():
        page.bullet(f"not tried: {', '.join(names)}: {safe(reason)}", "dim")
    if any(each.remedy in INPUTS and each.verdict is TrialVerdict.HARMS for each in report.trials):
        page.bullet(JUMP, "dim")
    for note in report.notes:
        page.bullet(safe(note), "dim")


def _not_tried(report: TryReport) -> dict[str, list[str]]:
    """Remedies without a verdict, by the reason."""
    found: dict[str, list[str]] = {}
    for each in report.trials:
        if each.verdict is None and each.remedy != NONE:
            found.setdefault(each.reasons.get("verdict", UNKNOWN), []).append(each.remedy)
    return found
