"""Zeros of one gradient tensor, told apart by what they mean."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from gradscope.measure.layer_facts import NOTHING, LayerFacts, expected_places
from gradscope.measure.zero_kinds import RawLines, zero_anatomy, zero_lines
from gradscope.records import ZeroCount
from gradscope.settings import ZERO_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gradscope.measure.zero_kinds import ZeroLines

    Array: TypeAlias = NDArray[Any]

CHUNK_ELEMENTS: Final = 1 << 18
"""Elements looked at together: 2 MB as float64, so that big layers never exist twice."""
DUST: Final = 2.0**-11.5
"""Of the layer's largest gradient: what sums that cancel leave of an exact 0. Half the digits of float32, the
usual bound for a difference of equal numbers (Higham, Accuracy and Stability of Numerical Algorithms, 1.7);
key biases of real attention layers held at most 1e-6 of it."""


def zero_count(
    gradient: Array,
    *,
    name: str,
    module: str | None = None,
    facts: LayerFacts | None = None,
    tolerance: float = ZERO_TOLERANCE,
) -> ZeroCount:
    """Zeros, non-finite values and size of one gradient.

    Row = index 0 (the unit), column = index 1 (its input) with all kernel elements behind it; the other
    way round in embeddings and transposed convolutions. A value is a zero where ``|g| <= tolerance``;
    -0.0 is an exact zero, 1e-45 is not; NaN and infinities are never zeros. Each zero has one kind, the
    first that fits: expected, whole_layer (all that is not expected), dead_input (its whole column is
    zero), dead_unit (its whole row is; of an LSTM or GRU the rows of all gates), scattered.
    One-dimensional parameters: every element is its own unit. Of a grouped convolution a column is the
    same place in each group.

    Args:
        gradient: any shape, order and floating or complex type, ml_dtypes among them; [out, in, ...].
        name: full parameter name; its last part tells attention and gates where nothing else does.
        module: type of the owning module, where known and ``facts`` are not given.
        facts: what else is known of the layer: looked-up rows, pruned weights, ...
        tolerance: in units of the gradient.

    Returns:
        Counts over all elements. ``norm`` (float64, scaled, so that squares cannot overflow) and
        ``max_abs`` are of the finite values; None where there is none, or where the result is beyond
        float64. No elements: all counts 0.
    """
    facts = facts or LayerFacts(module=module)
    return counted_lines(gradient, name=name, facts=facts, tolerance=tolerance)[0]


def counted_lines(
    gradient: Array, *, name: str, facts: LayerFacts = NOTHING, tolerance: float = ZERO_TOLERANCE
) -> tuple[ZeroCount, ZeroLines]:
    """The count of ``zero_count`` and which units and inputs are zero as a whole, in one pass."""
    matrix = gradient.reshape(-1, 1) if gradient.ndim < 2 else gradient  # noqa: PLR2004 - a matrix
    expected = expected_places(gradient, name, facts)
    tally = _Tally(
        zero_rows=np.ones(matrix.shape[0], bool),
        zero_columns=np.ones(matrix.shape[1], bool),
        expected=None if expected is None else expected.reshape(matrix.shape),
    )
    for rows, columns in _blocks(matrix.shape):
        tally.add(rows, columns, matrix[rows, columns], tolerance)
    raw = RawLines(
        rows=tally.zero_rows,
        columns=tally.zero_columns,
        num_zero=tally.num_zero,
        num_expected_zero=tally.num_expected_zero,
        expected=expected,
    )
    count = ZeroCount(
        num_elements=gradient.size,
        num_zero=tally.num_zero,
        num_exact_zero=tally.num_exact_zero,
        num_nonfinite=tally.num_nonfinite,
        norm=_finite(math.hypot(*tally.norms)) if tally.largest else None,
        max_abs=_finite(max(tally.largest)) if tally.largest else None,
        anatomy=zero_anatomy(gradient, name, facts, raw),
    )
    num_dust = _num_dust(gradient, expected, tally)
    return count, zero_lines(gradient, name, facts, raw, num_dust)


def unexpected_fraction(count: ZeroCount, num_batches: int = 1) -> float | None:
    """Zeros that need an explanation, 0..1: ``(num_zero - expected) / (num_elements x num_batches)``.

    Args:
        count: of one batch, or summed over ``num_batches`` of them.
        num_batches: how many.

    Returns:
        None where there are no elements, or none of them is finite: nothing to judge.
    """
    seen = count.num_elements * num_batches
    if seen == count.num_nonfinite:
        return None
    return (count.num_zero - count.anatomy.expected) / seen


@dataclass(kw_only=True)
class _Tally:
    """Running counts over the blocks of one matrix."""

    zero_rows: NDArray[np.bool_]
    zero_columns: NDArray[np.bool_]
    expected: NDArray[np.bool_] | None = None
    """Places that cannot have a gradient; whole rows and columns are told by the others."""
    num_zero: int = 0
    num_expected_zero: int = 0
    num_exact_zero: int = 0
    num_nonfinite: int = 0
    norms: list[float] = field(default_factory=list)
    largest: list[float] = field(default_factory=list)

    def add(self, rows: slice, columns: slice, block: Array, tolerance: float) -> None:
        """Count one block, [rows, columns, ...]."""
        magnitude = _magnitude(block)
        zero = magnitude <= _threshold(tolerance, magnitude.dtype)
        self.num_zero += int(np.count_nonzero(zero))
        self.num_exact_zero += magnitude.size - int(np.count_nonzero(magnitude))
        if self.expected is not None:
            wild = self.expected[rows, columns]
            self.num_expected_zero += int(np.count_nonzero(zero & wild))
            zero = zero | wild
        kernel = tuple(range(2, zero.ndim))
        self.zero_rows[rows] &= zero.all(axis=(1, *kernel))
        self.zero_columns[columns] &= zero.all(axis=(0, *kernel))
        finite = np.isfinite(magnitude)
        if not finite.all():
            # |complex| overflows to infinity although both parts are finite: the parts decide.
            self.num_nonfinite += block.size - int(np.count_nonzero(np.isfinite(_plain(block))))
            magnitude = magnitude[finite]
        if magnitude.size:
            self._add_size(magnitude)

    def _add_size(self, magnitude: Array) -> None:
        largest = float(magnitude.max())
        self.largest.append(largest)
        if largest > 0:
            scaled = np.ravel(magnitude).astype(np.float64) / largest
            self.norms.append(largest * math.sqrt(float(np.dot(scaled, scaled))))


def _num_dust(gradient: Array, expected: NDArray[np.bool_] | None, tally: _Tally) -> int | None:
    """Expected elements of a vector that are no zeros, but at most DUST of its largest; None: no measure."""
    if expected is None or gradient.ndim != 1 or not tally.largest or expected.all():
        return None
    small = int(np.count_nonzero(_magnitude(gradient[expected]) <= DUST * max(tally.largest)))
    return max(0, small - tally.num_expected_zero)


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Row and column ranges that cover a matrix in pieces of about CHUNK_ELEMENTS."""
    kernel = math.prod(shape[2:])
    width = max(1, min(shape[1], CHUNK_ELEMENTS // max(1, kernel)))
    height = max(1, CHUNK_ELEMENTS // (width * max(1, kernel)))
    for top in range(0, shape[0], height):
        for left in range(0, shape[1], width):
            yield slice(top, top + height), slice(left, left + width)


def _plain(block: Array) -> Array:
    """The same values in a type numpy can calculate with: float16, bfloat16 and float8 fit float32."""
    if block.dtype == np.complex64:
        return block.astype(np.complex128)
    if block.dtype.kind in "fc" and block.dtype.itemsize > 2:  # noqa: PLR2004 - bytes of a half float
        return block
    return block.astype(np.float64 if block.dtype.kind in "iub" else np.float32)


def _magnitude(block: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        return np.abs(_plain(block))


def _threshold(tolerance: float, dtype: np.dtype[Any]) -> Any:
    """Largest value of ``dtype`` that is not above ``tolerance``: rounding up would count too many."""
    near = dtype.type(tolerance)
    return near if float(near) <= tolerance else np.nextafter(near, dtype.type(0))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
