"""What is measured and found; field names are the keys of the JSON documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

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
    """Cannot be anything else: the key bias of softmax attention."""
    whole_layer: int = 0
    dead_input: int = 0
    """Whole columns: every weight from one input."""
    dead_unit: int = 0
    """Whole rows: every weight into one unit; in one-dimensional parameters every zero element."""
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
    optimizer: Mapping[str, float | None] | None = None
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


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A file that was skipped or could not be read, and why."""

    source: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ColumnShift:
    """One column of a slice at one step against the reference."""

    index: int
    name: str | None
    active_fraction_reference: float | None = None
    active_fraction: float | None = None
    wasserstein: float | None = None
    """In reference standard deviations."""
    ks: float | None = None
    psi: float | None = None
    p_value_adjusted: float | None = None
    """Holm over columns x steps."""
    rms: float | None = None
    rms_reference: float | None = None
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SliceShift:
    """One slice at one step against the reference; means over its columns."""

    name: str
    num_columns: int
    activity: float | None = None
    wasserstein: float | None = None
    wasserstein_max: float | None = None
    ks: float | None = None
    fraction_shifted: float | None = None
    rms: float | None = None
    rms_ratio: float | None = None
    """Slice rms over the median column rms of all other slices."""
    status: Status = Status.UNKNOWN
    columns: Sequence[ColumnShift] = ()
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StepShift:
    """All slices of one step's window."""

    run: str
    step: int | None
    source: str
    is_reference: bool
    num_rows: int
    window_truncated: bool
    slices: Sequence[SliceShift] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class ShiftReport:
    """Input shift of every run that has replays or recorded batches."""

    steps: Sequence[StepShift] = ()
    slices: Mapping[str, str] = field(default_factory=dict)
    slices_from: str = "guessed"
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SeriesPoint:
    """Slice activity and pooled zeros at one step."""

    step: int
    activity: float | None
    num_open_positions: int | None
    zero_fraction: float | None


@dataclass(frozen=True, kw_only=True)
class Association:
    """Slice activity against one layer's zero fraction, over steps."""

    name: str
    num_steps: int
    pearson: float | None = None
    spearman: float | None = None
    p_value: float | None = None
    p_value_adjusted: float | None = None
    """Westfall-Young: maximum over layers, activity shifted circularly for all together."""
    effective_num_steps: float | None = None
    lag: int | None = None
    """Rows by which zeros follow activity at the strongest correlation."""
    change_step: int | None = None
    """Step of the layer's largest lasting change of level."""
    verdict: str = "too few steps"
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AssociationReport:
    """What goes together in one run; never a claim of cause."""

    slice: str
    run: str
    num_steps: int
    source: str
    """timeline, or checkpoints where there is none."""
    series: Sequence[SeriesPoint] = ()
    activity_change_step: int | None = None
    layers: Sequence[Association] = ()
    effects: Sequence[Mapping[str, object]] = ()
    verdict: str = "too few steps"
    reason: str = ""
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that one command found, ready to be shown."""

    path: str
    zero_tolerance: float
    limits: Mapping[str, float]
    slices: Mapping[str, str] = field(default_factory=dict)
    slices_from: str = "guessed"
    snapshots: Sequence[SnapshotGradient] = ()
    crossings: Sequence[Crossing] = ()
    replays: Sequence[ReplayFile] = ()
    timelines: Sequence[TimelineFile] = ()
    skipped: Sequence[LeftOut] = ()
    unreadable: Sequence[LeftOut] = ()
    notes: Sequence[str] = ()
    shift: ShiftReport | None = None
    associations: Sequence[AssociationReport] = ()
