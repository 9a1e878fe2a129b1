"""Units of a layer told apart by what they give: dead, saturated, dormant, cloned, cut off behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import numpy as np

from gradscope.records import UnitActivity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

Places: TypeAlias = tuple[int, ...]

TAUS: Final = (0.0, 0.025, 0.1)
"""Limits of the dormant score (ReDo, Sokar et al. 2023, arXiv 2302.12902)."""
CLONE_GAP: Final = 1e-10
"""1 - |cos| of two units' outputs that is rounding of float32: vectors of length 1 that differ by 1.4e-5."""
LEAST_DIFFERENT: Final = 3
"""Different outputs other than 0 that a unit needs to be compared: two points are always in proportion."""
NO_ROWS: Final = "no rows"
NO_ACTIVATION: Final = "no activation was seen directly behind this layer"
MEMORY: Final = ("LSTM", "GRU", "RNN")
_NEVER_DEAD: Final = {
    "LeakyReLU": "its slope is nowhere 0",
    "PReLU": "its slope is nowhere 0",
    "Tanh": "where its output is 0, its slope is 1",
    "Softsign": "where its output is 0, its slope is 1",
    "ELU": "where its slope is 0, its output is not",
    "SELU": "where its slope is 0, its output is not",
    "CELU": "where its slope is 0, its output is not",
}
_NEVER_SATURATED: Final = {
    "ReLU": "where its slope is 0, its output is 0: such a unit is dead",
    "LeakyReLU": "its slope is nowhere 0",
    "PReLU": "its slope is nowhere 0",
}


class UnitCounts(Protocol):
    """What was counted of one layer's outputs; ``gradscope.recompute`` gives it."""

    @property
    def layer(self) -> str:
        """Weight whose rows make the units."""

    @property
    def activation(self) -> str | None:
        """Type of the activation behind it."""

    @property
    def num_rows(self) -> int:
        """Outputs of each unit: of all rows, bars and positions."""

    @property
    def magnitude(self) -> Array:
        """Sum of |output|, [units]: 0 only where all are 0, not finite where one is not."""

    @property
    def is_flat(self) -> Array | None:
        """Whether the activation's slope is exactly 0 on every row, booleans [units]; None: not known."""

    @property
    def num_saturated(self) -> Array | None:
        """Outputs where that slope is exactly 0 and the output is not, [units]."""

    @property
    def sample(self) -> Array:
        """Some of the outputs, [rows, units]."""

    @property
    def outgoing_zero(self) -> Array | None:
        """Whether all weights behind a unit are exactly 0, booleans [units]; None where not known."""

    @property
    def outgoing_reason(self) -> str:
        """Why that is not known."""


def unit_activity(counts: UnitCounts) -> UnitActivity:
    """Which units are dead, saturated, dormant, cloned or cut off behind, and how many ways a layer moves.

    Slopes are the activation's derivative as torch computes it, exactly 0 or not. A unit with slope 0 on
    every row is dead where its output is 0 on every row too, else saturated. ``num_rows`` counts outputs of
    a unit: a linear layer over bars and a convolution give several for each observation.

    Returns:
        Every measure, or None (or nothing) with its reason: no rows, outputs that are not finite, an
        activation behind which no unit can be dead. ``update_to_weight`` is left to ``update_ratio``.
    """
    reasons = {"update_to_weight": "not asked for"}
    zero = counts.outgoing_zero
    if zero is None:
        reasons["outgoing_zero"] = counts.outgoing_reason
    rank, clones = effective_rank(counts.sample), num_cloned(counts.sample)
    if isinstance(rank, str):
        reasons["effective_rank"] = rank
    if isinstance(clones, str):
        reasons["num_cloned"] = clones
    scores = dormant_scores(counts.magnitude, counts.num_rows)
    if isinstance(scores, str):
        reasons["dormant_fractions"] = scores
    dead, saturated, fraction, why_not = _flat(counts)
    return UnitActivity(
        layer=counts.layer,
        num_units=len(counts.magnitude),
        activation=counts.activation,
        num_rows=counts.num_rows,
        dormant_fractions={} if isinstance(scores, str) else dormant_fractions(scores),
        dead=dead,
        saturated=saturated,
        saturated_fraction=fraction,
        outgoing_zero=() if zero is None else _places(zero),
        num_cloned=None if isinstance(clones, str) else clones,
        effective_rank=None if isinstance(rank, str) else rank,
        reasons={**reasons, **why_not},
    )


def dormant_scores(magnitude: Array, num_rows: int) -> Array | str:
    """Score of each unit, [units]: s_i = mean|h_i| / (mean over units of mean|h|); 1 is average.

    Sokar et al. 2023 (ReDo), equation 1. A layer whose outputs are all 0 has scores of 0.

    Args:
        magnitude: sum of |h_i| over rows, [units].
        num_rows: how many rows were summed.

    Returns:
        The scores, float64; or why there are none.
    """
    if not num_rows or not magnitude.size:
        return NO_ROWS
    lost = int(np.count_nonzero(~np.isfinite(magnitude)))
    if lost:
        return f"outputs of {lost:,} units are not finite"
    means = magnitude.astype(np.float64) / num_rows
    middle = means.mean()
    return means / middle if middle > 0 else np.zeros_like(means)


def dormant_fractions(scores: Array) -> dict[str, float]:
    """Share of units whose score is at or below each tau, by tau as it is written."""
    return {f"{tau:g}": float(np.count_nonzero(scores <= tau)) / scores.size for tau in TAUS}


def effective_rank(outputs: Array) -> float | str:
    """How many directions outputs [rows, units] use: exp(-sum p ln p) of p = singular values / their sum.

    Roy & Vetterli 2007, The effective rank; not centred. At most the smaller of rows and units: constant
    outputs give 1.

    Returns:
        The rank, from 1 on; or why there is none: no rows, not finite, all 0.
    """
    if not outputs.size:
        return NO_ROWS
    if not np.isfinite(outputs).all():
        return "outputs are not finite"
    # Scaled first: squares of huge or tiny outputs have no place in a float.
    largest = float(np.abs(outputs).max())
    if not largest:
        return "all outputs are 0"
    values = np.linalg.svd(outputs.astype(np.float64) / largest, compute_uv=False)
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def num_cloned(outputs: Array) -> int | str:
    """Units whose outputs [rows, units] equal another one's or are in proportion to them, within rounding.

    Cloned units of Joudaki et al. 2025 (arXiv 2510.00304): of k units that double each other, k - 1 count.
    Units with fewer than three different outputs other than 0 are not compared: constant and dead ones,
    and those that only one or two rows reach, are always in proportion.

    Returns:
        Their number; or why there is none: no rows, not finite.
    """
    if not outputs.size:
        return NO_ROWS
    if not np.isfinite(outputs).all():
        return "outputs are not finite"
    columns = outputs.astype(np.float64).T
    told = [each for each in columns if np.unique(each[each != 0]).size >= LEAST_DIFFERENT]
    if not told:
        return 0
    matrix = np.array(told)
    matrix /= np.abs(matrix).max(axis=1, keepdims=True)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    alike = 1 - np.abs(matrix @ matrix.T) <= CLONE_GAP
    return int(np.triu(alike, k=1).any(axis=0).sum())


def _flat(counts: UnitCounts) -> tuple[Places, Places, float | None, dict[str, str]]:
    """Dead and saturated units, share of saturated outputs, reasons."""
    kind, both = counts.activation, ("dead", "saturated", "saturated_fraction")
    if kind in MEMORY:
        return (), (), None, dict.fromkeys(both, f"slopes inside of {kind} units are not looked at")
    if counts.is_flat is None or counts.num_saturated is None:
        return (), (), None, dict.fromkeys(both, NO_ACTIVATION)
    if not counts.num_rows or not counts.is_flat.size:
        return (), (), None, dict.fromkeys(both, NO_ROWS)
    is_flat, is_zero = counts.is_flat, counts.magnitude == 0
    reasons = {}
    if kind in _NEVER_DEAD:
        reasons["dead"] = f"no unit can be dead behind {kind}: {_NEVER_DEAD[kind]}"
    if kind in _NEVER_SATURATED:
        reasons["saturated"] = f"no unit can saturate behind {kind}: {_NEVER_SATURATED[kind]}"
    share = float(counts.num_saturated.sum()) / (counts.num_rows * counts.is_flat.size)
    return _places(is_flat & is_zero), _places(is_flat & ~is_zero), share, reasons


def _places(chosen: Array) -> Places:
    return tuple(int(each) for each in np.flatnonzero(chosen))
