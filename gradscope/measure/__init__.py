"""Arrays become numbers: zeros, slices, input shift, association."""

from gradscope.measure.association import associations
from gradscope.measure.selectors import overlap_notes, resolve_slices
from gradscope.measure.shift import ShiftWindow, step_shifts
from gradscope.measure.slices import active_rows, guess_slices, ranges, resting_values, slice_values
from gradscope.measure.zeros import unexpected_fraction, zero_count

__all__ = [
    "ShiftWindow",
    "active_rows",
    "associations",
    "guess_slices",
    "overlap_notes",
    "ranges",
    "resolve_slices",
    "resting_values",
    "slice_values",
    "step_shifts",
    "unexpected_fraction",
    "zero_count",
]
