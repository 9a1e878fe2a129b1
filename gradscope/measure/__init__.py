"""Arrays become numbers: zeros, slices, input shift, association."""

from gradscope.measure.zeros import unexpected_fraction, zero_count

__all__ = ["unexpected_fraction", "zero_count"]
