"""What is found beside zeros: input shift, association, and the report that holds everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gradscope.records.explained import Effect
from gradscope.records.measured import (
    Crossing,
    LeftOut,
    ReplayFile,
    SnapshotGradient,
    Status,
    TimelineFile,
)
from gradscope.records.opened import Reasons


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
    """What goes together in one run; a cause is claimed only after an intervention."""

    slice: str
    run: str
    num_steps: int
    source: str
    """timeline, or checkpoints where there is none."""
    series: Sequence[SeriesPoint] = ()
    activity_change_step: int | None = None
    layers: Sequence[Association] = ()
    effects: Sequence[Effect] = ()
    """Of interventions on the slice at the steps that were tried."""
    verdict: str = "too few steps"
    reason: str = ""
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that one command found, ready to be shown."""

    path: str
    zero_tolerance: float
    limits: Mapping[str, float]
    layer_limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Layer glob to limits of its own; a later glob wins."""
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
