"""Arrays become numbers: zeros, slices, input shift, association."""

from gradscope.measure.association import associations
from gradscope.measure.batches import fraction_interval, mean, summed
from gradscope.measure.column_zeros import ColumnZeros
from gradscope.measure.effect import Difference, effect
from gradscope.measure.moments import optimizer_evidence
from gradscope.measure.own_columns import own_columns, slice_mask
from gradscope.measure.selectors import overlap_notes, resolve_slices
from gradscope.measure.shift import ShiftWindow, step_shifts
from gradscope.measure.slices import active_rows, guess_slices, ranges, resting_values, slice_values
from gradscope.measure.zeros import unexpected_fraction, zero_count

__all__ = [
    "ColumnZeros",
    "Difference",
    "ShiftWindow",
    "active_rows",
    "associations",
    "effect",
    "fraction_interval",
    "guess_slices",
    "mean",
    "optimizer_evidence",
    "overlap_notes",
    "own_columns",
    "ranges",
    "resolve_slices",
    "resting_values",
    "slice_mask",
    "slice_values",
    "step_shifts",
    "summed",
    "unexpected_fraction",
    "zero_count",
]
