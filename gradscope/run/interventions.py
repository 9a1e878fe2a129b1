"""What can be done to one slice on the rows of one step, and why the rest cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from gradscope.measure import active_rows, slice_mask, slice_values
from gradscope.run.inputs import shapes_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.recompute.changes import Change, Columns, RowKind
    from gradscope.records import Slice
    from gradscope.run.inputs import Array, RunSlices

    Arrays = Mapping[str, Array]

FLAT: Final = "flat"
PERMUTED: Final = "permuted"
RESCALED: Final = "rescaled"
ACTIVE: Final = "active rows"
INACTIVE: Final = "inactive rows"
INTERVENTIONS: Final = (FLAT, PERMUTED, RESCALED, ACTIVE, INACTIVE)
MOST_ROWS: Final = 1 << 16
"""Rows looked at for activity, evenly taken; active and inactive ones are drawn from among them."""
MOST_MEASURED: Final = 4096
"""Rows that the rms of columns is of, evenly taken."""
ROWS_A_ROW: Final = 2
"""Rows there must be for each row of a batch: batches of few different rows have more zeros anyway."""
OTHER_ROWS: Final = "the rows that gradients are recomputed from hold other observations than the slice is of"
AT_REST: Final = "the slice rests on every row of this step: there is nothing to change"
NO_REST: Final = "the rows are stored after VecNormalize: at which value the slice rests is not known"
WHOLE_NUMBERS: Final = "its values are whole numbers"
NO_OTHERS: Final = "there is no other column to take the size from"
SEQUENCES: Final = "a recurrent policy takes neighbouring rows only"
SAME_ROWS: Final = "the slice holds the same values on every row"


class Drawing(Protocol):
    """Which batches a recomputation draws, and from what."""

    @property
    def num_batches(self) -> int:
        """Of it."""

    @property
    def batch_size(self) -> int:
        """Rows of a batch."""

    @property
    def seed(self) -> int:
        """Of its random states."""

    @property
    def numbers(self) -> Array:
        """Of every row that can be drawn."""

    @property
    def kind(self) -> RowKind:
        """What these rows are."""

    def stored(self, numbers: Array) -> Arrays:
        """Observations as they are stored."""

    def seen(self, stored: Arrays) -> Arrays:
        """The same as the network sees them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Intervention:
    """One thing done: to the inputs, or to which rows are drawn."""

    change: Change | None = None
    allowed: Array | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Interventions:
    """All of them for one slice on one step's rows."""

    masks: Mapping[str, Array]
    """Where the slice lies, by entry of the observation, [bars, columns] where there are bars."""
    silenced: Change
    """The slice exactly 0: shows which weights take it directly."""
    by_name: Mapping[str, Intervention | str]
    """In the order of INTERVENTIONS; a reason where one cannot be done."""
    control: Change | None
    """As many other inputs permuted: what only breaks up rows known by heart. None without others."""


def interventions(drawing: Drawing, wanted: Slice, known: RunSlices) -> Interventions | str:
    """What can be done to the slice, or why nothing can."""
    from gradscope.recompute import changes  # noqa: PLC0415  leads to torch

    numbers = drawing.numbers
    stored = drawing.stored(_evenly(numbers, MOST_MEASURED))
    if not known.shapes or shapes_of(stored) != known.shapes or not len(numbers):
        return OTHER_ROWS
    seen = drawing.seen(stored)
    mask = slice_mask(wanted, known.shapes[wanted.key], known.sequence_length)
    columns = changes.Columns(key=wanted.key, where=mask)
    values = columns.of(seen)
    rest = _rest(drawing, wanted, known, columns)
    looked_at = _evenly(numbers, MOST_ROWS)
    active = None if rest is None else _active(drawing, looked_at, wanted, known)
    if active is not None and not active.any() and (values == rest).all():
        return AT_REST
    is_same = bool((values == values[:1]).all())
    factors = _factors(seen, columns)
    by_name = {
        FLAT: NO_REST if rest is None else Intervention(change=changes.flat(columns, rest)),
        PERMUTED: SAME_ROWS if is_same else Intervention(change=changes.permuted(columns, drawing.seed)),
        RESCALED: factors
        if isinstance(factors, str)
        else Intervention(change=changes.rescaled(columns, factors)),
        ACTIVE: _rows(drawing, looked_at, active, "has the slice active"),
        INACTIVE: _rows(drawing, looked_at, None if active is None else ~active, "has the slice at rest"),
    }
    masks = {key: _by_bars(np.zeros(shape, bool), known) for key, shape in known.shapes.items()}
    return Interventions(
        masks={**masks, wanted.key: _by_bars(mask, known)},
        silenced=changes.flat(columns, np.zeros(int(mask.sum()))),
        by_name=by_name,
        control=_control(seen, columns, drawing.seed),
    )


def _control(seen: Arrays, columns: Columns, seed: int) -> Change | None:
    """As many other inputs of the same entry that move, or as many as there are, of other rows."""
    from gradscope.recompute import changes  # noqa: PLC0415  leads to torch

    values = seen[columns.key]
    others = np.flatnonzero((values != values[:1]).any(axis=0) & ~columns.where)
    if not len(others):
        return None
    number = min(int(columns.where.sum()), len(others))
    where = np.zeros(columns.where.shape, bool)
    where.flat[np.random.default_rng(seed).choice(others, number, replace=False)] = True
    return changes.permuted(changes.Columns(key=columns.key, where=where), seed)


def _by_bars(mask: Array, known: RunSlices) -> Array:
    """A flat observation of several bars as [bars, columns]."""
    return mask.reshape(known.sequence_length, -1) if known.sequence_length and mask.ndim == 1 else mask


def _evenly(numbers: Array, most: int) -> Array:
    return numbers[np.linspace(0, len(numbers) - 1, min(most, len(numbers))).astype(np.int64)]


def _rest(drawing: Drawing, wanted: Slice, known: RunSlices, columns: Columns) -> Array | None:
    """Resting values of the slice as the network sees them, [columns of all bars]; None where unknown."""
    if drawing.kind.are_normalised and known.normalised:
        return None
    own, resting = columns.where, known.resting[wanted.name]
    num_bars = int(own.sum()) // len(resting)
    whole = {key: np.zeros((1, *shape)) for key, shape in known.shapes.items()}
    # The slice's places in order are its columns, bar after bar.
    whole[wanted.key][:, own] = np.tile(resting, num_bars)
    dtype = drawing.stored(drawing.numbers[:1])[wanted.key].dtype
    whole[wanted.key] = whole[wanted.key].astype(dtype)
    resting_as_seen: Array = columns.of(drawing.seen(whole))[0]
    return resting_as_seen


def _active(drawing: Drawing, numbers: Array, wanted: Slice, known: RunSlices) -> Array:
    """Which rows have the slice away from rest, as ``scan`` counts it."""
    parts = [
        active_rows(
            slice_values(drawing.stored(each), wanted, known.sequence_length), known.resting[wanted.name]
        )
        for each in np.array_split(numbers, max(1, len(numbers) // MOST_MEASURED))
    ]
    return np.concatenate(parts)


def _rows(drawing: Drawing, numbers: Array, chosen: Array | None, what: str) -> Intervention | str:
    if drawing.kind.are_sequences:
        return SEQUENCES
    if chosen is None:
        return NO_REST
    if chosen.all():
        return f"every row {what}: they are the rows as they are"
    allowed, needed = numbers[chosen], ROWS_A_ROW * drawing.batch_size
    if len(allowed) < needed:
        return f"{len(allowed)} of {len(numbers)} rows {what.replace('has', 'have')}: {needed} are needed"
    return Intervention(allowed=allowed)


def _factors(seen: Arrays, columns: Columns) -> Array | str:
    """What gives each column of the slice the median rms of all other columns, [columns of all bars].

    The rms is of a column's values that are not 0, over all bars and rows: a column that is mostly at 0 is
    not blown up. A column of zeros stays.
    """
    where = columns.where
    if seen[columns.key].dtype.kind != "f":
        return WHOLE_NUMBERS
    others = [
        _rms(values[:, ~where] if key == columns.key else values.reshape(len(values), -1))
        for key, values in seen.items()
        if values.dtype.kind == "f"
    ]
    sizes = np.concatenate(others)
    sizes = sizes[sizes > 0]
    if not len(sizes):
        return NO_OTHERS
    own = _rms(columns.of(seen))
    factors: Array = np.divide(np.median(sizes), own, out=np.ones_like(own), where=own > 0)
    return factors


def _rms(values: Any) -> Array:
    """Of each column's finite values that are not 0; 0 where there are none."""
    found = np.where(np.isfinite(values), values, 0).astype(np.float64)
    num = np.count_nonzero(found, axis=0)
    total = np.square(found).sum(axis=0)
    rms: Array = np.sqrt(np.divide(total, num, out=np.zeros_like(total), where=num > 0))
    return rms
