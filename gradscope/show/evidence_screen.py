"""What optimizers remember of past gradients: for runs, or files, that hold no gradients."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from gradscope.records.percent import UNKNOWN, percent
from gradscope.show.order import of_run, step_words
from gradscope.show.rows import count, plural, safe
from gradscope.show.screen import Column, Page, new_table

if TYPE_CHECKING:
    from gradscope.records import LayerGradient, OptimizerEvidence, Report, SnapshotGradient

COLUMNS: Final = (
    Column("layer", "name"),
    Column("never trained"),
    Column("silent for"),
    Column("share active", drop=1),
    Column("units and inputs", "text"),
)
ACTIVE: Final = 3
LINES: Final = {
    "never_trained_rows": ("unit", "never trained"),
    "never_trained_columns": ("input", "never trained"),
    "silent_rows": ("unit", "silent"),
    "silent_columns": ("input", "silent"),
}
"""Counts of whole rows and columns, in words."""
MOST_LAYERS: Final = 8
MOST_REASONS: Final = 3
NO_GRADIENTS: Final = (
    "Evidence from the optimizers' saved state. It holds averages of past gradients, no gradients."
)
LEGEND: Final = (
    "never trained: weights that no gradient ever reached. silent for: updates since the last gradient, "
    "at least to at most; a gradient that shrank fast looks alike. units and inputs: whole rows and columns."
)
ALL_WELL: Final = (
    "every weight was trained at some time, and no layer, unit or input has fallen silent for long."
)


def add_evidence(page: Page, report: Report, run: str) -> None:
    """Layers of the newest step whose optimizer state tells anything: never trained, silent, active."""
    told = newest_with_evidence(report, run)
    for snapshot in told:
        source = f", {safe(snapshot.source)}" if len(told) > 1 and snapshot.step is not None else ""
        page.heading(f"What the optimizers remember at {step_words(snapshot)}{source}")
        page.line(NO_GRADIENTS)
        _add_table(page, snapshot)
        for text in untold(snapshot):
            page.bullet(text, "dim")
    for snapshot in of_run(report, run)[-1:] if not told else ():
        for text in untold(snapshot):
            page.bullet(f"no evidence from optimizers at {step_words(snapshot)}: {text}")


def newest_with_evidence(report: Report, run: str) -> list[SnapshotGradient]:
    """Snapshots of the newest step at which any optimizer state was read; none where there is none.

    What doubles another is left out where that other is there.
    """
    told = [each for each in of_run(report, run) if any(layer.optimizer for layer in each.layers)]
    known = [each.step for each in told if each.step is not None]
    newest = [each for each in told if each.step == max(known, default=None)]
    sources = {each.source for each in newest}
    return [each for each in newest if each.double_of not in sources]


def _add_table(page: Page, snapshot: SnapshotGradient) -> None:
    found = [(layer, layer.optimizer) for layer in snapshot.layers if layer.optimizer is not None]
    testable = [each for each in found if each[1].never_trained_fraction is not None]
    worst = sorted((each for each in testable if _severity(*each)), key=lambda each: -_severity(*each))
    if not testable:
        return
    if not worst:
        page.line(f"{plural(len(testable), 'layer')}: {ALL_WELL}")
        return
    rows = [_cells(*each) for each in worst[:MOST_LAYERS]]
    is_known = any(each.activity_rate is not None for _, each in worst)
    kept = [at for at in range(len(COLUMNS)) if at != ACTIVE or is_known]
    shown = [[row[at] for at in kept] for row in rows]
    page.table(new_table(page.look, [COLUMNS[at] for at in kept], shown))
    if len(worst) > MOST_LAYERS:
        page.line(f"and {len(worst) - MOST_LAYERS} more; --json lists them all", "dim")
    if len(testable) > len(worst):
        page.line(f"{plural(len(testable) - len(worst), 'other layer')}: {ALL_WELL}", "dim")
    page.line(LEGEND, "dim")


def _severity(layer: LayerGradient, found: OptimizerEvidence) -> float:
    """Share of the layer that is lost, 0..1: a silent layer wholly, silent units and inputs as they count."""
    if found.silent_at_least:
        return 1.0
    lines = zip((found.silent_rows, found.silent_columns), layer.shape, strict=False)
    return max(found.never_trained_fraction or 0, *((many or 0) / size for many, size in lines if size), 0)


def _cells(layer: LayerGradient, found: OptimizerEvidence) -> tuple[str, ...]:
    counts = [(getattr(found, key) or 0, *words) for key, words in LINES.items()]
    return (
        layer.name,
        percent(found.never_trained_fraction),
        _silence(found),
        percent(found.activity_rate),
        ", ".join(f"{plural(many, noun)} {what}" for many, noun, what in counts if many),
    )


def _silence(found: OptimizerEvidence) -> str:
    """Like "276 to 323", "> 834", "no" where the last updates may have had gradients."""
    if found.silent_at_least is None:
        return UNKNOWN
    if found.silent_at_most is None:
        return f"> {count(found.silent_at_least)}"
    if not found.silent_at_least:
        return "no"
    return f"{count(found.silent_at_least)} to {count(found.silent_at_most)}"


def untold(snapshot: SnapshotGradient) -> list[str]:
    """Why optimizer state tells nothing, or less, of some layers; most layers first."""
    reasons = Counter(reason for layer in snapshot.layers for reason in _reasons(layer))
    lines = [f"{safe(reason)} ({plural(many, 'layer')})" for reason, many in reasons.most_common()]
    left = len(lines) - MOST_REASONS
    more = [f"and {plural(left, 'more reason')}; --json lists them"] if left > 0 else []
    return lines[:MOST_REASONS] + more


def _reasons(layer: LayerGradient) -> set[str]:
    found = layer.optimizer
    if found is None:
        return {layer.reasons.get("optimizer", "not known why")}
    keys = ("never_trained_fraction", "silent_at_least", "silent_rows")
    wanted = keys if len(layer.shape) > 1 else keys[:2]
    return {found.reasons.get(key, "not known why") for key in wanted if getattr(found, key) is None}
