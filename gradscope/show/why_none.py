"""Snapshots without gradients, and why: what a user can do about it stands in the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.records import Origin
from gradscope.show.order import of_run, step_words
from gradscope.show.rows import plural, safe

if TYPE_CHECKING:
    from gradscope.records import Report, SnapshotGradient
    from gradscope.show.screen import Page

MOST_STEPS: Final = 3
MOST_REASONS: Final = 4


def add_why_none(page: Page, report: Report, run: str) -> None:
    """One line a reason; nothing where every snapshot has gradients, or none was asked for."""
    for text in why_none(report, run):
        page.bullet(text)


def why_none(report: Report, run: str) -> list[str]:
    """Like "no gradients at step 64, step 128: no replay buffer of this step"."""
    reasons: dict[str, list[SnapshotGradient]] = {}
    for snapshot in of_run(report, run):
        if snapshot.zero_fraction is None and snapshot.origin is not Origin.OPTIMIZER:
            reasons.setdefault(snapshot.reasons.get("zero_fraction", "not known why"), []).append(snapshot)
    lines = [f"no gradients {_where(found)}: {safe(reason)}" for reason, found in reasons.items()]
    left = len(lines) - MOST_REASONS
    more = [f"and {plural(left, 'more reason')}; --json lists them"] if left > 0 else []
    return lines[:MOST_REASONS] + more


def _where(snapshots: list[SnapshotGradient]) -> str:
    if len(snapshots) > MOST_STEPS:
        return f"in {len(snapshots)} snapshots"
    return f"at {', '.join(dict.fromkeys(map(step_words, snapshots)))}"
