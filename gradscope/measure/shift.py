"""Shift of the network's input, per step and slice, against a reference window."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from gradscope.measure.distance import Distances, distances, no_distances, root_mean_square, sample
from gradscope.measure.significance import holm
from gradscope.measure.slice_shift import SliceColumns, slice_shifts
from gradscope.measure.slices import active_rows, resting_values, slice_values
from gradscope.records import StepShift

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gradscope.records import Slice

    Array: TypeAlias = NDArray[Any]
    Floats: TypeAlias = NDArray[np.float64]

COLUMNS_AT_ONCE: Final = 512
"""Columns held as float64 together, so that images need no more memory than tables."""


@dataclass(frozen=True, kw_only=True)
class ShiftWindow:
    """Rows collected for one step; each mapping by observation key, [rows, *observation shape]."""

    run: str
    step: int | None
    source: str
    raw: Mapping[str, Array]
    """As collected: for activity and distances."""
    inputs: Mapping[str, Array]
    """As the network sees them: for rms."""
    truncated: bool = False
    notes: tuple[str, ...] = ()


def step_shifts(
    windows: Sequence[ShiftWindow],
    *,
    slices: Sequence[Slice],
    sequence_length: int | None = None,
    feature_names: Sequence[str] | None = None,
    reference: int = 0,
) -> tuple[StepShift, ...]:
    """Every window against ``windows[reference]``, in the order given.

    A row is one observation, of a sequence its newest bar. Distances are of the raw values, rms of the
    inputs. p-values: two-sample Kolmogorov-Smirnov on as many rows as are independent (rank
    autocorrelation), Holm over all columns x steps of the call but the reference. Non-finite values
    are left out and said in ``reasons``; a window without rows is unknown. Slice status: mean
    Wasserstein distance below 0.25 ok, below 1.0 warn, else critical.

    Args:
        windows: of one run, by step.
        slices: to compare; each also serves the others as "all other slices" of ``rms_ratio``.
        sequence_length: bars of a flat observation.
        feature_names: names of one bar's columns.
        reference: place of the reference in ``windows``.
    """
    if not windows:
        return ()
    measured = _measured(windows, slices, sequence_length, reference) if slices else [[] for _ in windows]
    return tuple(
        StepShift(
            run=window.run,
            step=window.step,
            source=window.source,
            is_reference=place == reference,
            num_rows=_num_rows(window),
            window_truncated=window.truncated,
            slices=slice_shifts(slices, columns, measured[reference], feature_names),
            notes=window.notes,
        )
        for place, (window, columns) in enumerate(zip(windows, measured, strict=True))
    )


def _measured(
    windows: Sequence[ShiftWindow], slices: Sequence[Slice], sequence_length: int | None, reference: int
) -> list[list[SliceColumns]]:
    """By window, then by slice, with adjusted p-values."""
    by_slice = [_one_slice(windows, each, sequence_length, reference) for each in slices]
    tested = [[each.distances.p_value for each in columns] for columns in by_slice]
    adjusted = holm(np.concatenate([np.stack(each) for each in tested], axis=1))
    ends = np.cumsum([len(each[0]) for each in tested])
    parts = np.split(adjusted, ends[:-1], axis=1)
    return [
        [replace(columns[place], adjusted=part[place]) for columns, part in zip(by_slice, parts, strict=True)]
        for place in range(len(windows))
    ]


def _one_slice(
    windows: Sequence[ShiftWindow], columns: Slice, sequence_length: int | None, reference: int
) -> list[SliceColumns]:
    values = [slice_values(window.raw, columns, sequence_length) for window in windows]
    inputs = [slice_values(window.inputs, columns, sequence_length) for window in windows]
    resting = resting_values(values[reference])
    return [
        SliceColumns(
            num_rows=len(rows),
            num_nonfinite=(~np.isfinite(rows)).sum(axis=0),
            active_fraction=_active_fraction(rows, resting),
            rms=root_mean_square(seen),
            distances=apart,
            activity=float(active_rows(rows, resting).mean()) if len(rows) else None,
            is_reference=place == reference,
        )
        for place, (rows, seen, apart) in enumerate(
            zip(values, inputs, _all_distances(values, resting, reference), strict=True)
        )
    ]


def _all_distances(values: Sequence[Array], resting: Floats, reference: int) -> list[Distances]:
    """Distances of every window, a block of columns after the other."""
    blocks = []
    for start in range(0, len(resting), COLUMNS_AT_ONCE):
        part = slice(start, start + COLUMNS_AT_ONCE)
        fixed = sample(values[reference][:, part])
        blocks.append(
            [
                no_distances(fixed)
                if place == reference
                else distances(fixed, sample(rows[:, part]), resting[part])
                for place, rows in enumerate(values)
            ]
        )
    return [
        Distances(**{key: np.concatenate([vars(each)[key] for each in one]) for key in vars(one[0])})
        for one in zip(*blocks, strict=True)
    ]


def _active_fraction(rows: Array, resting: Floats) -> Floats:
    finite = np.isfinite(rows)
    number = finite.sum(axis=0)
    active = ((rows != resting) & finite).sum(axis=0)
    share: Floats = np.divide(active, number, out=np.full(len(resting), np.nan), where=number > 0)
    return share


def _num_rows(window: ShiftWindow) -> int:
    return len(next(iter(window.raw.values()), ()))
