"""The rows that a run collected, in order, across the replay buffers of its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from gradscope.recompute.batches import Batch, batch_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradscope.recompute.batches import Drawing
    from gradscope.records import Ring

    Array = NDArray[Any]

LOOKED_AT: Final = 32
"""Rows of two buffers that must be the same where one goes on from the other."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """Transitions in order of collection; no row is copied before it is drawn."""

    drawings: Sequence[Drawing]
    """One for each buffer."""
    which: Array
    """Buffer of each row."""
    numbers: Array
    """Number of each row in its buffer: place in the ring x environments + environment."""
    steps: Array
    """Environment steps of the whole run by which each row had been collected."""
    capacity: int
    """Rows that a buffer of this run holds."""
    start: int
    """Rows there were when the checkpoint was saved."""
    notes: Sequence[str] = ()

    def __len__(self) -> int:
        """Rows of all buffers."""
        return len(self.numbers)

    def end_after(self, num_new: float) -> int:
        """Rows there are when so many more were collected; at the end of the files it stays."""
        return min(self.start + int(num_new), len(self))

    def batch(self, rows: np.random.RandomState, end: int, size: int) -> Batch:
        """Rows drawn evenly from what a buffer holds by then."""
        first = max(end - self.capacity, 0)
        return self._at(rows.randint(first, end, size=size))

    def newest(self, end: int, count: int) -> dict[str, Array]:
        """Stored observations of the newest rows by then, by key."""
        return dict(self._at(np.arange(max(end - count, 0), end)).stored_observations)

    def _at(self, chosen: Array) -> Batch:
        parts, order = [], np.argsort(self.which[chosen], kind="stable")
        for place in np.unique(self.which[chosen]):
            drawing = self.drawings[place]
            numbers = self.numbers[chosen[self.which[chosen] == place]]
            parts.append(batch_at(drawing, *np.divmod(numbers, _environments(drawing.ring))))
        # In the order they were drawn in: that is how noise meets them.
        return parts[0] if len(parts) == 1 else _joined(parts, np.argsort(order))


def stream_of(drawing: Drawing, rings: Sequence[tuple[int, Ring]]) -> Stream:
    """Rows of one checkpoint's buffer, and of the later ones that go on from it.

    Args:
        drawing: how the checkpoint's rows are drawn.
        rings: buffers with the steps of their checkpoints, the checkpoint's own first, in order.
    """
    own_step, own = rings[0]
    numbers = ordered(own)
    which, place, last, notes = np.zeros(len(numbers), np.int64), 0, own_step, []
    drawings, steps = [replace(drawing, ring=own)], own_step - np.arange(len(numbers))[::-1]
    start = len(numbers)
    for step, ring in rings[1:]:
        fresh = ordered(ring)
        num_new = _num_new(drawings[place], numbers[which == place], ring, fresh, step - last)
        if num_new is not None and num_new < step - last - _environments(ring):
            missing = step - last - num_new
            notes.append(f"of the rows before step {step:,}, {missing:,} are in no buffer")
        if num_new is None:
            notes.append(
                f"the buffer of step {step:,} does not go on from the one of step {last:,}: left out"
            )
            break
        place, last = place + 1, step
        drawings.append(replace(drawing, ring=ring))
        numbers = np.concatenate([numbers, fresh[len(fresh) - num_new :]])
        which = np.concatenate([which, np.full(num_new, place)])
        steps = np.concatenate([steps, step - np.arange(num_new)[::-1]])
    capacity = len(next(iter(own.observations.values()))) * _environments(own)
    return Stream(
        drawings=drawings,
        which=which,
        numbers=numbers,
        steps=steps,
        capacity=capacity - (_environments(own) if own.is_shared else 0),
        start=start,
        notes=notes,
    )


def ordered(ring: Ring) -> Array:
    """Numbers of all transitions of a buffer in order of collection, environments side by side."""
    capacity, environments = len(next(iter(ring.observations.values()))), _environments(ring)
    times = np.arange(ring.position)
    if ring.is_full:
        # Of a shared ring, the row to be written next holds the newest observation and is no transition.
        times = (np.arange(capacity) + ring.position)[int(ring.is_shared) :] % capacity
    numbers: Array = (times[:, None] * environments + np.arange(environments)).ravel()
    return numbers


def _num_new(before: Drawing, numbers: Array, ring: Ring, fresh: Array, expected: int) -> int | None:
    """Rows of a buffer that the one before does not hold; None where it does not go on from that one.

    A callback saves before the newest rows are stored, a user after training behind them.
    """
    if expected > len(fresh):
        return len(fresh)
    environments = _environments(ring)
    for number in (expected, expected + environments, expected - environments):
        if 0 <= number <= len(fresh) and _goes_on(before, numbers, ring, fresh, number):
            return number
    return None


def _goes_on(before: Drawing, numbers: Array, ring: Ring, fresh: Array, num_new: int) -> bool:
    """Whether the rows before the new ones are the last ones of the buffer before."""
    common = min(len(fresh) - num_new, len(numbers), LOOKED_AT)
    if common <= 0:
        return True
    mine = numbers[len(numbers) - common :]
    theirs = fresh[len(fresh) - num_new - common : len(fresh) - num_new]
    return all(
        np.array_equal(_values(old, mine), _values(new, theirs), equal_nan=True)
        for old, new in ((before.ring.rewards, ring.rewards), (before.ring.actions, ring.actions))
    )


def _values(array: Array | None, numbers: Array) -> Array:
    assert array is not None
    return array[np.divmod(numbers, array.shape[1])]


def _environments(ring: Ring) -> int:
    return int(next(iter(ring.observations.values())).shape[1])


def _joined(parts: Sequence[Batch], order: Array) -> Batch:
    """Rows of several batches in another order than one behind the other."""
    return Batch(
        **{
            each.name: _put_together([getattr(one, each.name) for one in parts], order)
            for each in fields(Batch)
        }
    )


def _put_together(values: list[Any], order: Array) -> Any:
    first = values[0]
    if first is None:
        return None
    if isinstance(first, torch.Tensor):
        return torch.cat(values)[torch.from_numpy(order)]
    if isinstance(first, np.ndarray):
        return np.concatenate(values)[order]
    return {key: _put_together([each[key] for each in values], order) for key in first}
