"""Which units and inputs of a layer got no gradient, and since when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gradscope.records.opened import Reasons


@dataclass(frozen=True, kw_only=True)
class DeadSince:
    """Dead units (or inputs) of one layer at one step against the steps before it."""

    previous_step: int | None = None
    """The step compared with: the one before in the run, of the same origin."""
    num_before: int | None = None
    """Dead at that step."""
    num_same: int | None = None
    """Dead at both."""
    overlap: float | None = None
    """Jaccard: dead at both over dead at either."""
    since: Mapping[str, int] = field(default_factory=dict)
    """Step (as text) to how many of today's dead have been dead since then without a break."""
    dead_since: Sequence[int] = ()
    """That step for each listed index, in the list's order."""
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ZeroDetails:
    """Whole rows and columns of one layer that are zero in every batch; expected ones are not among them.

    Unit: an output of the layer (in all gates of an LSTM or GRU). Input: a column with all its kernel
    elements, a row of an embedding. Lists rise and hold the first ``MAX_LISTED``; counts are of all.
    """

    num_dead_units: int = 0
    dead_units: Sequence[int] = ()
    num_dead_inputs: int | None = None
    dead_inputs: Sequence[int] = ()
    num_parallel_inputs: int | None = None
    """Columns parallel to the bias gradient: inputs that never moved, though not at 0."""
    parallel_inputs: Sequence[int] = ()
    parallel_constants: Sequence[float] = ()
    """The value each of them stood at: ratio of the norms, with its sign."""
    input_names: Mapping[str, str] = field(default_factory=dict)
    """Feature of each listed input by index, where the layer takes the observation."""
    input_slices: Mapping[str, str] = field(default_factory=dict)
    """Slice of each listed input by index."""
    untaken_actions: Sequence[int] | None = None
    """Dead rows of a head of discrete actions that were never taken."""
    zero_blocks: Sequence[str] = ()
    """Parts of a stacked parameter that are zero as a whole: "query", "forget gate", ..."""
    num_dust: int | None = None
    """Elements that are expected to be zero and hold rounding above the tolerance; mean over batches."""
    units_since: DeadSince | None = None
    inputs_since: DeadSince | None = None
    reasons: Reasons = field(default_factory=dict)
