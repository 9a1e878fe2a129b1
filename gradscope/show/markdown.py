"""A report as Markdown: the answer and the step table, for an issue or a chat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradscope.show.answer import answer
from gradscope.show.order import run_names, step_rows
from gradscope.show.rows import safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradscope.records import Report

_SPECIAL = str.maketrans({char: f"\\{char}" for char in "\\`*_{}[]<>#|"})


def markdown(report: Report) -> str:
    """GitHub-flavoured Markdown; names from files are escaped."""
    parts = [f"# gradscope: {_safe(report.path)}"]
    for run in run_names(report):
        parts.append(f"## Run {_safe(run)}")
        parts.append("\n".join(f"- **{question}**: {_safe(text)}" for question, text in answer(report, run)))
        rows = [
            (row.step, row.activity, row.zeros, row.norm, row.clip, row.status.value, row.first_layer)
            for row in step_rows(report, run)
        ]
        parts.append(_table(("step", "positions", "zeros", "norm", "clip", "status", "first to cross"), rows))
    if report.unreadable:
        parts.append("## Could not be read")
        parts.append(_table(("file", "reason"), [(left.source, left.reason) for left in report.unreadable]))
    return "\n\n".join(parts) + "\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([_safe(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _safe(text: str) -> str:
    return safe(text).translate(_SPECIAL)
