"""What is measured of gradients; field names are the keys of the JSON documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from gradscope.records.anatomy import ZeroDetails
from gradscope.records.opened import Origin, Reasons

ALL_LAYERS: Final = "*"
"""Name of the pooled total in crossings and series."""


class Status(StrEnum):
    """Verdict on zeros or on a shift; unknown is not ok."""

    UNKNOWN = "unknown"
    OK = "ok"
    WARN = "warn"
    CRITICAL = "critical"
    COLLAPSE = "collapse"

    @property
    def rank(self) -> int:
        """Place in the order unknown, ok, warn, critical, collapse."""
        return list(Status).index(self)


@dataclass(frozen=True, kw_only=True)
class ZeroAnatomy:
    """Zeros by kind, each counted once, in this order; they add up to num_zero."""

    expected: int = 0
    """Cannot be anything else: key bias of softmax attention, embedding rows not looked up, pruned weights,
    a bias that the next batch norm takes away."""
    whole_layer: int = 0
    dead_input: int = 0
    """Whole columns: every weight from one input."""
    dead_unit: int = 0
    """Whole rows: every weight into one unit (in all gates); in one-dimensional parameters every zero
    element. Rows of actions never taken are among them: ``ZeroDetails.untaken_actions`` tells which."""
    scattered: int = 0


@dataclass(frozen=True, kw_only=True)
class ZeroCount:
    """Zeros of one gradient tensor, before any verdict."""

    num_elements: int
    num_zero: int
    """|g| <= tolerance, NaN and infinities not among them."""
    num_exact_zero: int
    """+0.0 or -0.0."""
    num_nonfinite: int
    norm: float | None
    """Euclidean, of the finite values; None where nothing is finite or there are no elements."""
    max_abs: float | None
    anatomy: ZeroAnatomy


@dataclass(frozen=True, kw_only=True)
class OptimizerEvidence:
    """What the optimizer's saved state tells of one layer's past gradients; none of it is a gradient."""

    never_trained_fraction: float | None = None
    """Elements whose squared average is exactly 0: no gradient above about 1e-21 ever reached them."""
    never_trained_rows: int | None = None
    """Units (index 0 of two or more dimensions) with no trained element."""
    never_trained_columns: int | None = None
    """Inputs (index 1) with no trained element."""
    silent_updates: int | None = None
    """Updates since the last gradient, were gradients before that like noise."""
    silent_at_least: int | None = None
    """However their signs went and with bad luck; only gradients that shrank fast look alike."""
    silent_at_most: int | None = None
    """Whatever gradients there were."""
    silent_rows: int | None = None
    """Units that were trained once and whose own silence is at least one update."""
    silent_columns: int | None = None
    """Inputs that were trained once and whose own silence is at least one update."""
    activity_rate: float | None = None
    """Share of the last updates in which an element had a gradient, were those as large as the one compared
    with: a gradient that has doubled looks like a quarter of the updates."""
    num_updates: int | None = None
    """The optimizer's own count of updates of this layer, those with a zero gradient among them."""
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LayerGradient:
    """One layer of one snapshot, measured and judged."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    origin: Origin
    num_elements: int
    num_zero: int | None = None
    num_exact_zero: int | None = None
    num_nonfinite: int | None = None
    zero_fraction: float | None = None
    exact_zero_fraction: float | None = None
    interval: tuple[float, float] | None = None
    """95 % interval of zero_fraction over batches."""
    baseline_zero_fraction: float | None = None
    """Zeros, the expected ones left out, of a fresh network of this shape."""
    norm: float | None = None
    max_abs: float | None = None
    status: Status = Status.UNKNOWN
    anatomy: ZeroAnatomy | None = None
    details: ZeroDetails | None = None
    """Which units and inputs, beside the counts."""
    optimizer: OptimizerEvidence | None = None
    """Beside the gradient, never part of its counts."""
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SnapshotGradient:
    """One snapshot, measured and judged; totals are over the layers of its origin."""

    run: str
    step: int | None
    step_from: str | None
    source: str
    gradient_source: str | None
    """Recorder file joined to the checkpoint."""
    format: str
    origin: Origin
    num_batches: int | None = None
    batch_size: int | None = None
    seed: int | None = None
    num_elements: int = 0
    num_zero: int | None = None
    num_exact_zero: int | None = None
    zero_fraction: float | None = None
    exact_zero_fraction: float | None = None
    num_nonfinite: int | None = None
    norm: float | None = None
    norm_before_clip: float | None = None
    clip_coefficient: float | None = None
    position_activity: float | None = None
    """Share of rows with the slice `position` away from rest; of the gradient's batch, else of the window."""
    num_open_positions: int | None = None
    """Those rows, counted."""
    status: Status = Status.UNKNOWN
    reasons: Reasons = field(default_factory=dict)
    layers: Sequence[LayerGradient] = ()
    notes: Sequence[str] = ()
    double_of: str | None = None
    """The file that counts in this one's place in crossings and series: a copy, or another of its step."""


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """First step at which a layer (or "*", the pooled total) reached a limit."""

    run: str
    layer: str
    limit: str
    step: int | None
    zero_fraction: float


@dataclass(frozen=True, kw_only=True)
class ReplayFile:
    """One replay buffer that was found."""

    run: str
    step: int | None
    source: str
    num_rows: int


@dataclass(frozen=True, kw_only=True)
class TimelineFile:
    """One recorder timeline that was found."""

    run: str
    source: str
    num_rows: int


NO_KNOWN_FORMAT: Final = "no known format"
TRAINING_LOG: Final = "a log of training, without weights or transitions"
SKIPPED_UNNAMED: Final = (NO_KNOWN_FORMAT, TRAINING_LOG)
"""Reasons to skip a file that leave nothing to do about it: screens only count such files."""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A file that was skipped or could not be read, and why."""

    source: str
    reason: str
