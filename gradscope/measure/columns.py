"""Inputs that never move, found in the gradient alone: columns parallel to the bias gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from gradscope.measure.layer_facts import NOTHING, LayerFacts, is_swapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

PARALLEL: Final = 1 - 1e-6
"""Least |cos| between a column and the bias gradient; an input that stands still gives 1 up to rounding."""
LEAST_UNITS: Final = 3
"""Fewer numbers are parallel by chance (one in 1,100 of two; two in a million of three)."""
SAME_CONSTANT: Final = 1e-2
"""Relative; an input whose value differs by more between batches has moved."""
CHUNK_ELEMENTS: Final = 1 << 17
NUM_ANCHORS: Final = 32
"""Rows on which columns are looked at first: those with the largest bias gradients."""
NEAR: Final = 2.0
"""Slack of that look: a parallel column may put all its deviation, and the error of its constant, there."""
ROUNDING: Final = 1e-12
NO_BIAS: Final = "this layer has no bias gradient to compare its columns with"
FEW_UNITS: Final = f"fewer than {LEAST_UNITS} units have a bias gradient"
RANK_ONE: Final = "every column is parallel to the bias gradient: one row of the batch decides all of it"
NOT_FINITE: Final = "the gradient is not finite"


@dataclass(frozen=True, kw_only=True, eq=False)
class ParallelInputs:
    """Inputs of one layer that stood at a constant other than 0."""

    constants: NDArray[np.float64]
    """[inputs]: what each stood at; NaN where it moved, or has no gradient at all."""


def bias_name(name: str) -> str | None:
    """The parameter that is added where this weight's products are; None where the name does not tell."""
    owner, dot, leaf = name.rpartition(".")
    if leaf in {"weight", "weight_orig"}:
        return f"{owner}{dot}bias"
    if leaf.startswith(("weight_ih", "weight_hh")) or leaf == "in_proj_weight":
        return f"{owner}{dot}{leaf.replace('weight', 'bias')}"
    return None


def parallel_inputs(weight: Array, bias: Array | None, facts: LayerFacts = NOTHING) -> ParallelInputs | str:
    """Columns j of a weight gradient with ``|cos(column j, bias gradient)| >= PARALLEL``.

    The bias gradient is the sum of all deltas, a column the sum of deltas times its input: where the
    input is a constant c on every row, the column is c times the bias gradient. Centering turns a flat
    input from 0 into such a constant. Of a convolution all kernel elements must have the same c, which
    padding with zeros hides, and the borders of a transposed one.

    Args:
        weight: gradient, [out, in, ...]; in the order of its file.
        bias: gradient of the same layer, [out].
        facts: of the layer.

    Returns:
        The constants; or why nothing can be told.
    """
    matrix = weight.swapaxes(0, 1) if is_swapped(weight, facts) else weight
    if bias is None or bias.ndim != 1 or matrix.ndim < 2 or len(bias) != len(matrix):  # noqa: PLR2004
        return NO_BIAS
    if bias.dtype.kind == "c" or weight.dtype.kind == "c":
        return "complex gradients have no columns to compare"
    deltas = bias.astype(np.float64)
    if not np.isfinite(deltas).all():
        return NOT_FINITE
    if np.count_nonzero(deltas) < LEAST_UNITS:
        return FEW_UNITS
    constants = _constants(matrix, deltas)
    is_zero = constants == 0
    if not is_zero.all() and not np.isnan(constants).any():
        return RANK_ONE
    return ParallelInputs(constants=np.where(is_zero, np.nan, constants))


def still_parallel(before: ParallelInputs, after: ParallelInputs) -> ParallelInputs:
    """Inputs that stood at the same constant in both batches."""
    same = np.isclose(before.constants, after.constants, rtol=SAME_CONSTANT, atol=0)
    return ParallelInputs(constants=np.where(same, before.constants, np.nan))


def _constants(matrix: Array, deltas: NDArray[np.float64]) -> NDArray[np.float64]:
    """[in]: NaN where the column is not parallel, 0 where it is all zeros."""
    constants = np.full(matrix.shape[1], np.nan)
    # Most columns fail on a few rows already; only the others are looked at as a whole.
    anchors = np.argsort(-np.abs(deltas))[:NUM_ANCHORS]
    few = _Sums.of(matrix[anchors], deltas[anchors])
    total = float(np.dot(deltas / few.size, deltas / few.size))
    with np.errstate(invalid="ignore", over="ignore"):
        left = few.squares - few.along**2 / few.total
        is_near = (
            left <= 2 * NEAR * (1 - PARALLEL) * (few.along / few.total) ** 2 * total + ROUNDING * few.squares
        )
    places = np.flatnonzero(is_near.all(axis=1))
    if len(places):
        whole = _Sums.of(matrix if len(places) == len(constants) else matrix[:, places], deltas)
        constants[places] = whole.constants()
    return constants


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sums:
    """Inner products of columns with the bias gradient and with themselves, [in, kernel], float64.

    All are scaled by the bias gradient's largest: squares of gradients of 1e-200 do not vanish.
    """

    along: NDArray[np.float64]
    squares: NDArray[np.float64]
    total: float
    """Of the bias gradient with itself."""
    size: float

    @classmethod
    def of(cls, matrix: Array, deltas: NDArray[np.float64]) -> _Sums:
        shape = (matrix.shape[1], math.prod(matrix.shape[2:]))
        along, squares = np.zeros(math.prod(shape)), np.zeros(math.prod(shape))
        size = float(np.abs(deltas).max())
        scaled = deltas / size
        with np.errstate(invalid="ignore", over="ignore"):
            for rows in _rows(len(matrix), along.size):
                block = matrix[rows].astype(np.float64).reshape(-1, along.size) / size
                along += scaled[rows] @ block
                squares += np.einsum("ij,ij->j", block, block)
        along, squares = along.reshape(shape), squares.reshape(shape)
        return cls(along=along, squares=squares, total=float(np.dot(scaled, scaled)), size=size)

    def constants(self) -> NDArray[np.float64]:
        is_parallel = np.abs(self.along) >= PARALLEL * np.sqrt(self.squares * self.total)
        found = np.where(is_parallel & np.isfinite(self.squares), self.along / self.total, np.nan)
        if found.shape[1] == 1:
            return found[:, 0]
        same = np.isclose(found, found[:, :1], rtol=SAME_CONSTANT, atol=0).all(axis=1)
        return np.where(same, found[:, 0], np.nan)


def _rows(num_rows: int, width: int) -> Iterator[slice]:
    height = max(1, CHUNK_ELEMENTS // max(1, width))
    for top in range(0, num_rows, height):
        yield slice(top, top + height)
