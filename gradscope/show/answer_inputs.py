"""The part of the answer about the inputs: what shifted, and what is out of scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.records import Status
from gradscope.records.percent import percent
from gradscope.show.rows import count, number, safe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradscope.records import Report, SliceShift, StepShift

MISMATCH: Final = 10.0
"""rms ratio of a slice to the others that deserves a word (SCIENCE: above 10)."""
ONE_STEP: Final = "Not known: only one step has inputs, so there is nothing to compare."


def inputs(report: Report, run: str) -> Iterator[str]:
    """What each slice did at the step where it moved most, and whether its scale fits the others'."""
    steps = [step for step in report.shift.steps if step.run == run] if report.shift else []
    if not steps:
        reason = report.shift.reasons.get(run) if report.shift else None
        yield f"Not known: {safe(reason)}." if reason else "Not measured."
        return
    if all(step.is_reference for step in steps):
        yield ONE_STEP
    for name in dict.fromkeys(each.name for step in steps for each in step.slices):
        pairs = [(step, each) for step in steps for each in step.slices if each.name == name]
        words = (*_shift_words(name, pairs), *_mismatch_words(name, pairs))
        if words:
            yield f"{'; '.join(words)}."


def _shift_words(name: str, pairs: list[tuple[StepShift, SliceShift]]) -> Iterator[str]:
    """How far the slice moved from the reference; a reference is not compared with itself."""
    later = [pair for pair in pairs if not pair[0].is_reference]
    judged = [pair for pair in later if pair[1].status is not Status.UNKNOWN]
    if not judged:
        for _, found in later[:1]:
            yield f"{safe(name)}: not known ({safe(next(iter(found.reasons.values()), 'no rows'))})"
        return
    step, found = max(judged, key=lambda pair: (pair[1].status.rank, pair[1].wasserstein or 0))
    if found.status is Status.OK:
        yield f"{safe(name)} did not shift"
        return
    yield (
        f"{safe(name)} shifted by {number(found.wasserstein)} standard deviations at step {count(step.step)} "
        f"({percent(found.activity)} of rows active)"
    )


def _mismatch_words(name: str, pairs: list[tuple[StepShift, SliceShift]]) -> Iterator[str]:
    """A scale mismatch needs no shift: an input may be too large from the first step on."""
    step, found = max(pairs, key=lambda pair: pair[1].rms_ratio or 0)
    if (found.rms_ratio or 0) >= MISMATCH:
        yield (
            f"the rms of {safe(name)} is {number(found.rms_ratio)} times the other columns' "
            f"at step {count(step.step)}: a scale mismatch"
        )
