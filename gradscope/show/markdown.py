"""Each command's result as Markdown, for an issue or a chat."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from gradscope.records import ShiftReport
from gradscope.records.percent import percent
from gradscope.show.answer import answer
from gradscope.show.correlate_screen import LAYER_HEADS, layer_cells
from gradscope.show.effects_table import EFFECT_HEADS, effect_cells
from gradscope.show.order import run_names, step_rows
from gradscope.show.rows import count, safe, sentence
from gradscope.show.shift_screen import SLICE_HEADS, slice_cells

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.records import Report
    from gradscope.show.order import StepRow

_SPECIAL = str.maketrans({char: f"\\{char}" for char in "\\`*_{}[]<>#|&~!$@"})
STEP_HEADS: Final = ("positions", "zeros", "norm", "clip", "status", "first to cross")
_LINK = re.compile(r"(?i)(?<=www)\.|:(?=//)|(?<=mailto):|(?<=xmpp):")
"""What makes a link of bare text, where it is not escaped."""


def markdown(report: Report, whys: Mapping[str, str] | None = None) -> str:
    """The answer and the step table of every run, and why where that was asked; names are escaped."""
    parts = [f"# gradscope: {escaped(report.path)}"]
    for run in run_names(report):
        parts.append(f"## Run {escaped(run)}")
        parts.append(
            "\n".join(
                f"- **{question}**: {escaped(text)}"
                for question, text in answer(report, run, (whys or {}).get(run, ""))
            )
        )
        parts.append(_steps(step_rows(report, run)))
    return _page([*parts, *_unreadable(report)])


def _steps(found: Sequence[StepRow]) -> str:
    has_files = any(row.file for row in found)
    heads = ("step", *(["file"] if has_files else []), *STEP_HEADS)
    rows = [
        (
            *(row.step, *([row.file] if has_files else []), row.activity, row.zeros),
            *(row.norm, row.clip, row.status.value, row.first_layer),
        )
        for row in found
    ]
    return table(heads, rows)


def shift_markdown(report: Report) -> str:
    """Every slice at every step against the reference; names from files are escaped."""
    shift = report.shift or ShiftReport()
    parts = [f"# gradscope shift: {escaped(report.path)}"]
    parts.extend(f"Run {escaped(run)}: no shift: {escaped(reason)}." for run, reason in shift.reasons.items())
    for run in dict.fromkeys(step.run for step in shift.steps):
        rows = [slice_cells(step, each) for step in shift.steps if step.run == run for each in step.slices]
        parts.append(f"## Run {escaped(run)}")
        parts.append(table(SLICE_HEADS, rows))
    return _page([*parts, *_unreadable(report)])


def correlate_markdown(report: Report) -> str:
    """Verdict, layers and series of every association; names from files are escaped."""
    parts = [f"# gradscope correlate: {escaped(report.path)}"]
    for found in report.associations:
        steps = f"{count(found.num_steps)} steps from the {found.source}"
        parts.append(f"## Run {escaped(found.run)}, slice {escaped(found.slice)}, {steps}")
        parts.append(f"**{escaped(sentence(found.verdict))}.** {escaped(sentence(found.reason))}")
        parts.append(table(LAYER_HEADS, [(each.name, *layer_cells(each)) for each in found.layers]))
        if found.effects:
            parts.append(table(EFFECT_HEADS, [effect_cells(each) for each in found.effects]))
        rows = [
            (count(point.step), percent(point.activity), percent(point.zero_fraction))
            for point in found.series
        ]
        parts.append(table(("step", "active", "zeros"), rows))
    return _page([*parts, *_unreadable(report)])


def _unreadable(report: Report) -> list[str]:
    if not report.unreadable:
        return []
    rows = [(left.source, left.reason) for left in report.unreadable]
    return ["## Could not be read", table(("file", "reason"), rows)]


def _page(parts: Sequence[str]) -> str:
    return "\n\n".join(parts) + "\n"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; its cells are escaped."""
    lines = [heads, ["---"] * len(heads), *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escaped(text: str) -> str:
    """A text that Markdown shows as it is."""
    return _LINK.sub(lambda found: f"\\{found[0]}", safe(text).translate(_SPECIAL))
