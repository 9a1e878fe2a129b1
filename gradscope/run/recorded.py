"""What the recorder counted itself, and whether that count is of the columns asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradscope.errors import UsageError
from gradscope.measure import resolve_slices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.records import Observed, Slice, Timeline
    from gradscope.run.inputs import RunSlices
    from gradscope.settings import Settings

POSITION = "position"


def counted_as(observed: Observed | None, wanted: Slice, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether the slice has the columns that the recorder's file counted as its ``position``."""
    if observed is None or POSITION not in observed.slices:
        return False
    selectors = {POSITION: observed.slices[POSITION]}
    names, length = observed.feature_names, observed.sequence_length
    try:
        slices = resolve_slices(selectors, shapes=shapes, feature_names=names, sequence_length=length)
    except UsageError:
        return False
    counted = next(each for each in slices if each.name == POSITION)
    return (counted.key, counted.flat, counted.columns) == (wanted.key, wanted.flat, wanted.columns)


def why_not_timeline(timeline: Timeline, name: str, known: RunSlices, settings: Settings) -> str | None:
    """Why a timeline does not hold the series that was asked for; None where it does."""
    where = timeline.source.name
    recorded = timeline.observed.slices.get(POSITION)
    if recorded is None:
        return f"{where} was recorded without a slice 'position'"
    wanted = known.named(name)
    if wanted is not None:
        is_same = counted_as(timeline.observed, wanted, known.shapes)
    else:
        is_same = name == POSITION and settings.slices.get(name, recorded) == recorded
    if not is_same:
        return f"{where} is not used: it counts position={', '.join(recorded)}"
    if timeline.zero_tolerances != (settings.zero_tolerance,):
        shown = ", ".join(f"{each}" for each in timeline.zero_tolerances)
        return f"{where} is not used: its zero tolerance is {shown}, not {settings.zero_tolerance:g}"
    return None
