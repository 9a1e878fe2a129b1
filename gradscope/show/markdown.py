"""Each command's result as Markdown, for an issue or a chat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradscope.records import ShiftReport
from gradscope.show.answer import answer
from gradscope.show.correlate_screen import LAYER_HEADS, layer_cells
from gradscope.show.effects_table import EFFECT_HEADS, effect_cells
from gradscope.show.order import run_names, step_rows
from gradscope.show.rows import count, percent, safe, sentence
from gradscope.show.shift_screen import SLICE_HEADS, slice_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradscope.records import Report

_SPECIAL = str.maketrans({char: f"\\{char}" for char in "\\`*_{}[]<>#|"})


def markdown(report: Report) -> str:
    """The answer and the step table of every run; names from files are escaped."""
    parts = [f"# gradscope: {_safe(report.path)}"]
    for run in run_names(report):
        parts.append(f"## Run {_safe(run)}")
        parts.append("\n".join(f"- **{question}**: {_safe(text)}" for question, text in answer(report, run)))
        rows = [
            (row.step, row.activity, row.zeros, row.norm, row.clip, row.status.value, row.first_layer)
            for row in step_rows(report, run)
        ]
        parts.append(_table(("step", "positions", "zeros", "norm", "clip", "status", "first to cross"), rows))
    return _page([*parts, *_unreadable(report)])


def shift_markdown(report: Report) -> str:
    """Every slice at every step against the reference; names from files are escaped."""
    shift = report.shift or ShiftReport()
    parts = [f"# gradscope shift: {_safe(report.path)}"]
    parts.extend(f"Run {_safe(run)}: no shift: {_safe(reason)}." for run, reason in shift.reasons.items())
    for run in dict.fromkeys(step.run for step in shift.steps):
        rows = [slice_cells(step, each) for step in shift.steps if step.run == run for each in step.slices]
        parts.append(f"## Run {_safe(run)}")
        parts.append(_table(SLICE_HEADS, rows))
    return _page([*parts, *_unreadable(report)])


def correlate_markdown(report: Report) -> str:
    """Verdict, layers and series of every association; names from files are escaped."""
    parts = [f"# gradscope correlate: {_safe(report.path)}"]
    for found in report.associations:
        steps = f"{count(found.num_steps)} steps from the {found.source}"
        parts.append(f"## Run {_safe(found.run)}, slice {_safe(found.slice)}, {steps}")
        parts.append(f"**{_safe(sentence(found.verdict))}.** {_safe(sentence(found.reason))}")
        parts.append(_table(LAYER_HEADS, [(each.name, *layer_cells(each)) for each in found.layers]))
        if found.effects:
            parts.append(_table(EFFECT_HEADS, [effect_cells(each) for each in found.effects]))
        rows = [
            (count(point.step), percent(point.activity), percent(point.zero_fraction))
            for point in found.series
        ]
        parts.append(_table(("step", "active", "zeros"), rows))
    return _page([*parts, *_unreadable(report)])


def _unreadable(report: Report) -> list[str]:
    if not report.unreadable:
        return []
    rows = [(left.source, left.reason) for left in report.unreadable]
    return ["## Could not be read", _table(("file", "reason"), rows)]


def _page(parts: Sequence[str]) -> str:
    return "\n\n".join(parts) + "\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([_safe(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _safe(text: str) -> str:
    return safe(text).translate(_SPECIAL)
