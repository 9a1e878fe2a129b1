"""Rows with a slice away from rest: in the gradient's own batch, else in the step's window."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gradscope.measure import active_rows, slice_values
from gradscope.run.inputs import fitting_window, shapes_of
from gradscope.run.recorded import POSITION, counted_as

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.records import Slice, Snapshot
    from gradscope.run.inputs import Array, RunSlices
    from gradscope.run.join import Moment

NOT_AT_REST: Final = "normalised batch: the resting value is not known"
NO_INPUTS: Final = "no replay buffer and no recorded batch of this step, or of another shape than the run's"


@dataclass(frozen=True, kw_only=True)
class Activity:
    """How many rows have a slice away from rest."""

    fraction: float | None = None
    num_active: int | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)


def activity(moment: Moment, known: RunSlices, name: str = POSITION) -> Activity:
    """Rows with the slice away from rest: in the gradient's own batch, else in the step's window."""
    wanted = known.named(name)
    keys = ("position_activity", "num_open_positions")
    if wanted is None:
        reason = known.reason or f"no slice is called {name!r}; try --slice {name}=A:B"
        return Activity(reasons=dict.fromkeys(keys, reason))
    recorded = moment.recorded
    if recorded is not None and counted_as(recorded.observed, wanted, known.shapes):
        counted = _as_recorded(recorded)
        if counted is not None:
            return counted
    batch = recorded.observations if recorded is not None else {}
    if batch and not known.normalised and shapes_of(batch) == known.shapes:
        return _counted(batch, wanted, known)
    if moment.replay is None and batch and known.normalised:
        return Activity(reasons=dict.fromkeys(keys, NOT_AT_REST))
    window = fitting_window(moment, known)
    if window is None or not window.num_rows:
        return Activity(reasons=dict.fromkeys(keys, NO_INPUTS))
    return _counted(window.raw, wanted, known)


def _as_recorded(recorded: Snapshot) -> Activity | None:
    """The recorder's own count: it knew where a normalised column rests; a batch alone does not tell."""
    if recorded.num_active is None or not recorded.num_rows:
        return None
    return Activity(fraction=recorded.num_active / recorded.num_rows, num_active=recorded.num_active)


def _counted(observations: Mapping[str, Array], wanted: Slice, known: RunSlices) -> Activity:
    values = slice_values(observations, wanted, known.sequence_length)
    active = active_rows(values, known.resting[wanted.name])
    return Activity(fraction=float(active.mean()), num_active=int(active.sum()))


@dataclass(kw_only=True)
class ActivityCount:
    """The same over recomputed batches, one after the other."""

    known: RunSlices
    num_rows: int = 0
    num_active: int = 0
    is_counted: bool = True

    def add(self, observations: Mapping[str, Array]) -> None:
        """Count one batch as the buffer stores it, [rows, *shape] by key."""
        wanted = self.known.named(POSITION)
        if wanted is None or shapes_of(observations) != self.known.shapes:
            self.is_counted = False
            return
        batch = _counted(observations, wanted, self.known)
        self.num_rows += len(next(iter(observations.values())))
        self.num_active += batch.num_active or 0

    def found(self) -> Activity | None:
        """Rows with an open position over all batches; None where they could not be counted."""
        if not (self.is_counted and self.num_rows):
            return None
        return Activity(fraction=self.num_active / self.num_rows, num_active=self.num_active)
