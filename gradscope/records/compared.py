"""Two runs side by side: A and B by step and layer; differences are always B minus A."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from gradscope.records.measured import LeftOut, Status
from gradscope.records.opened import Origin, Reasons


class CompareVerdict(StrEnum):
    """Which of two is worse; unclear and not comparable are not "no difference"."""

    A_WORSE = "a is worse"
    B_WORSE = "b is worse"
    SAME = "no difference"
    MIXED = "mixed"
    """Each is worse somewhere."""
    UNCLEAR = "unclear"
    """Different by the margin, but batches spread as far, or fresh networks say the opposite."""
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """One of the two runs, and how its gradients were measured."""

    name: str
    """As much of its path as tells the two apart."""
    path: str
    """As it was given."""
    run: str | None
    """Relative folder of the run in PATH; None where nothing was read."""
    num_snapshots: int = 0
    num_measured: int = 0
    """Snapshots with a known gradient."""
    origins: Sequence[str] = ()
    """Of the measured snapshots, each once; so with the next two."""
    num_batches: Sequence[int] = ()
    batch_sizes: Sequence[int] = ()
    zero_tolerance: float | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    layer_limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    slices: Mapping[str, str] = field(default_factory=dict)
    slices_from: str = "guessed"
    unreadable: Sequence[LeftOut] = ()
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ComparedGradient:
    """One layer of one run at one step."""

    zero_fraction: float | None = None
    unexpected_zero_fraction: float | None = None
    """Zeros without the expected ones: what is compared."""
    baseline_zero_fraction: float | None = None
    """The same of a fresh network."""
    interval: tuple[float, float] | None = None
    """95 % interval of ``zero_fraction`` over batches."""
    num_nonfinite: int | None = None
    norm: float | None = None
    status: Status = Status.UNKNOWN
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ComparedSnapshot:
    """One snapshot of one run, all layers pooled."""

    step: int | None
    source: str
    origin: Origin
    num_batches: int | None = None
    batch_size: int | None = None
    zero_fraction: float | None = None
    unexpected_zero_fraction: float | None = None
    baseline_zero_fraction: float | None = None
    """Mean over elements, a layer without one counting as 0."""
    interval: tuple[float, float] | None = None
    """As wide as if the zeros of all layers rose and fell together from batch to batch."""
    num_nonfinite: int | None = None
    norm: float | None = None
    norm_before_clip: float | None = None
    clip_coefficient: float | None = None
    position_activity: float | None = None
    status: Status = Status.UNKNOWN
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ComparedStep:
    """Both runs at one step; None where a run has no snapshot of it."""

    step: int | None
    """None: a snapshot without a step, or the only ones of both runs, of different steps."""
    a: ComparedSnapshot | None
    b: ComparedSnapshot | None
    difference: float | None = None
    """Of the pooled ``zero_fraction``, as every table shows it."""
    difference_beyond_fresh: float | None = None
    """Of the ``unexpected_zero_fraction`` that each has beyond its own fresh network, nothing less than 0."""
    interval: tuple[float, float] | None = None
    """95 % interval of ``difference`` over the batches of both runs."""
    verdict: CompareVerdict = CompareVerdict.NOT_COMPARABLE
    """Of the pooled total and of every layer that holds at least 1 % of a run's elements."""
    layer: str | None = None
    """Where the worse run is clearest: a layer, or "*" for the pooled total; None where neither is worse."""
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LayerPoint:
    """One layer of both runs at one common step."""

    step: int | None
    a: ComparedGradient
    b: ComparedGradient
    difference: float | None = None
    """Of ``unexpected_zero_fraction``."""
    difference_beyond_fresh: float | None = None
    interval: tuple[float, float] | None = None
    """95 % interval of ``difference`` over the batches of both runs."""
    verdict: CompareVerdict = CompareVerdict.NOT_COMPARABLE
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ComparedLayer:
    """One layer by name, over the common steps; a layer of one run alone has no points."""

    name: str
    shape_a: tuple[int, ...] | None
    shape_b: tuple[int, ...] | None
    decides: bool = False
    """Whether it holds 1 % of a run's elements, and so has a say in verdicts."""
    points: Sequence[LayerPoint] = ()
    step: int | None = None
    """Last common step at which it is known in both."""
    difference: float | None = None
    """At that step; so is the verdict."""
    verdict: CompareVerdict = CompareVerdict.NOT_COMPARABLE
    parted_step: int | None = None
    """First step from which the same run stays worse."""
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CrossedAt:
    """When one run's layer first reached a limit."""

    step: int | None
    zero_fraction: float


@dataclass(frozen=True, kw_only=True)
class ComparedCrossing:
    """One limit of one layer in both runs; None where it was not reached, with why in ``reasons``."""

    layer: str
    limit: str
    a: CrossedAt | None
    b: CrossedAt | None
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ComparedSlice:
    """Input shift of one slice in one run, against that run's own reference."""

    step: int | None
    is_reference: bool
    activity: float | None = None
    wasserstein: float | None = None
    rms: float | None = None
    rms_ratio: float | None = None
    status: Status = Status.UNKNOWN
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ComparedShift:
    """One slice of both runs at one common step; None where a run has no such slice."""

    step: int | None
    slice: str
    a: ComparedSlice | None
    b: ComparedSlice | None
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that ``compare`` found."""

    a: ComparedRun
    b: ComparedRun
    verdict: CompareVerdict = CompareVerdict.NOT_COMPARABLE
    reason: str = ""
    """The verdict in plain words, with its numbers."""
    step: int | None = None
    """The last step with this verdict; None where neither is worse."""
    margin: float = 0.05
    """What zeros must differ by to count."""
    warnings: Sequence[str] = ()
    """Why the two may not be alike in how they were measured."""
    notes: Sequence[str] = ()
    steps: Sequence[ComparedStep] = ()
    layers: Sequence[ComparedLayer] = ()
    crossings: Sequence[ComparedCrossing] = ()
    shift: Sequence[ComparedShift] = ()
    reasons: Reasons = field(default_factory=dict)
