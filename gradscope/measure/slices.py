"""Named columns of an observation: where they are, and when they are active."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gradscope.records import Slice

    Array: TypeAlias = NDArray[Any]


def slice_values(
    observations: Mapping[str, Array], columns: Slice | None, sequence_length: int | None = None
) -> Array:
    """Columns of a slice in the newest bar of each row, [rows, columns]; a view where numpy can make one.

    Args:
        observations: by key ("" for a plain space), [rows, *observation shape]. Shape (T, F) is T bars of
            F columns, oldest first; a flat observation is ``sequence_length`` bars; anything else one bar.
        columns: the slice; a flat one takes columns of all bars. None: every column of the plain space.
        sequence_length: bars of a flat observation in a plain space.
    """
    values = observations[columns.key if columns else ""]
    if columns is not None and columns.flat:
        return _taken(_flat(values), columns.columns)
    plain = columns is None or not columns.key
    bars = _newest_bars(values, sequence_length if plain else None)
    return bars if columns is None else _taken(bars, columns.columns)


def guess_slices(windows: Sequence[Array]) -> tuple[str, ...] | None:
    """Selectors of the columns that are constant in the earliest window and vary later.

    Args:
        windows: in order of collection, each [rows, columns] of the newest bar, or just the two rows of
            each column's smallest and largest value.

    Returns:
        Ranges such as ``("73:80",)``, or None where there is nothing to tell apart: fewer than two
        windows, no such column, or no column that is alive from the start.
    """
    filled = [window for window in windows if len(window)]
    if len(filled) < 2:  # noqa: PLR2004 - earliest and later
        return None
    first = filled[0]
    quiet = _constant(first)
    moved = np.zeros(first.shape[1], dtype=bool)
    for window in filled[1:]:
        moved |= ~_constant(np.concatenate([first[:1], window]))
    guessed = quiet & moved
    return ranges(np.flatnonzero(guessed).tolist()) if guessed.any() and not quiet.all() else None


def ranges(columns: Sequence[int]) -> tuple[str, ...]:
    """Rising column numbers as selectors: (3, 4, 5, 9) is ("3:6", "9")."""
    numbers = np.asarray(columns, dtype=np.int64)
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1) if len(numbers) else []
    return tuple(f"{run[0]}:{run[-1] + 1}" if len(run) > 1 else str(run[0]) for run in runs)


def resting_values(reference: Array) -> NDArray[np.float64]:
    """Value each column rests at: its most frequent one where that holds more than half, else 0.

    Args:
        reference: [rows, columns]; non-finite values are left out.

    Returns:
        [columns], float64; 0 for a column without a finite value.
    """
    values = np.sort(np.where(np.isfinite(reference), reference, np.nan).astype(np.float64), axis=0)
    num_finite = np.isfinite(values).sum(axis=0)
    if not len(values):
        return np.zeros(values.shape[1])
    # A value that holds more than half of a sorted column must stand in its middle.
    middle = np.take_along_axis(values, (num_finite // 2).clip(max=len(values) - 1)[None], axis=0)[0]
    holds = (values == middle).sum(axis=0)
    # Adding 0 turns -0.0 into 0.0.
    return np.where(2 * holds > num_finite, middle, 0.0) + 0.0


def active_rows(values: Array, resting: Array) -> NDArray[np.bool_]:
    """Rows, [rows], with any column away from its resting value; a non-finite value is not activity."""
    away: NDArray[np.bool_] = (values != resting) & np.isfinite(values)
    return np.asarray(away.any(axis=1))


def _newest_bars(values: Array, sequence_length: int | None) -> Array:
    if values.ndim == 3:  # noqa: PLR2004 - rows, bars, columns
        return values[:, -1]
    flat = _flat(values)
    width = flat.shape[1] // (sequence_length or 1)
    return flat[:, flat.shape[1] - width :]


def _flat(values: Array) -> Array:
    # Not -1: numpy cannot tell the width of a window without rows.
    return values.reshape(len(values), math.prod(values.shape[1:]))


def _taken(values: Array, columns: Sequence[int]) -> Array:
    first, last = columns[0], columns[-1]
    if tuple(columns) == tuple(range(first, last + 1)):
        return values[:, first : last + 1]
    return values[:, list(columns)]


def _constant(window: Array) -> NDArray[np.bool_]:
    """Columns without any change; a column of NaN alone has none."""
    same = (window == window[:1]) | (np.isnan(window) & np.isnan(window[:1]))
    return np.asarray(same.all(axis=0))
