"""What is opened: snapshots, layers, timelines; what was collected is in collected.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

SNAPSHOT_SCHEMA: Final = "gradscope/snapshot/1"
"""Safetensors metadata of what the recorder writes at each save."""
TIMELINE_SCHEMA: Final = "gradscope/timeline/1"
"""Header of the recorder's JSON lines."""
ROLLOUT_SCHEMA: Final = "gradscope/rollout/1"
"""Safetensors metadata of what the recorder writes of an on-policy rollout after a save."""

Reasons: TypeAlias = Mapping[str, str]


class Origin(StrEnum):
    """Where a gradient comes from; origins are never mixed in one fraction."""

    STORED = "stored"
    RECOMPUTED = "recomputed"
    OPTIMIZER = "optimizer"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One parameter tensor of a snapshot, as its file names it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    weight: Array | None = None
    gradient: Array | None = None
    """What the optimizer saw, of ``shape``; None is not a zero gradient."""
    moments: Mapping[str, Array] = field(default_factory=dict)
    """Optimizer state of this parameter (exp_avg, exp_avg_sq, ...), where the mapping is proved."""
    moment_settings: Mapping[str, object] = field(default_factory=dict)
    """Of its parameter group, as torch names them: lr, betas, eps, weight_decay, amsgrad, ..."""
    origin: Origin = Origin.NONE
    module: str | None = None
    """Type of the module that owns it, where the file says so: Linear, MultiheadAttention, ..."""
    baseline_zero_fraction: float | None = None
    """Zeros, the expected ones left out, of the fresh network's first update."""
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Clipping:
    """What gradient clipping did at one update, over all optimizers."""

    norm_before_clip: float | None = None
    clip_coefficient: float | None = None
    """Factor the gradient was multiplied with; the smallest over optimizers."""
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Observed:
    """How a file lays out observations, as the recorder was told."""

    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sequence_length: int | None = None
    feature_names: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One opened checkpoint or recorder file. ``layers`` reads lazily: one layer in memory at a time."""

    source: Path
    format: str
    step: int | None = None
    step_from: str | None = None
    """Key of the content, or "name"; None where the step is unknown."""
    layers: Mapping[str, Layer] = field(default_factory=dict)
    state: Mapping[str, Array] = field(default_factory=dict)
    """The model's whole state dict, buffers and target networks among it, in file order; lazy as layers."""
    algorithm: str | None = None
    num_batches: int | None = None
    batch_size: int | None = None
    num_rows: int | None = None
    """Observations of the gradient's batch, as the recorder counted them."""
    num_active: int | None = None
    """Those with the recorded slice `position` away from rest."""
    seed: int | None = None
    clipping: Clipping = field(default_factory=Clipping)
    observations: Mapping[str, Array] = field(default_factory=dict)
    """The gradient's own batch, key "" for a plain space: [rows, *observation shape]."""
    observed: Observed | None = None
    reasons: Reasons = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What a user should know of this file: contradicting step, inert stubs, ..."""


@dataclass(frozen=True, kw_only=True)
class TimelineLayer:
    """One layer's column in the dense timeline; NaN where it had no gradient in that row."""

    name: str
    num_elements: int
    step: NDArray[np.int64]
    num_zero: NDArray[np.float64]
    num_exact_zero: NDArray[np.float64]
    num_expected: NDArray[np.float64]
    norm: NDArray[np.float64]
    num_rows: NDArray[np.float64]
    """Observations in the batch."""
    num_active: NDArray[np.float64]
    """Observations in the batch with an open position; NaN where unknown."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The recorder's dense timeline of one run."""

    source: Path
    num_rows: int
    layers: Sequence[TimelineLayer]
    step: NDArray[np.int64]
    """Step of every row (one per optimizer step)."""
    norm_before_clip: NDArray[np.float64]
    clip_coefficient: NDArray[np.float64]
    num_active: NDArray[np.float64]
    num_long: NDArray[np.float64]
    num_short: NDArray[np.float64]
    observed: Observed = field(default_factory=Observed)
    zero_tolerances: tuple[float | None, ...] = ()
    """What zeros were counted with: one, or several where a recording was resumed with another."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Named columns of one observation."""

    name: str
    columns: tuple[int, ...]
    """Of one bar; of the flat observation where ``flat``; of the entry ``key`` of a Dict space."""
    selector: str
    """As the user wrote it."""
    key: str = ""
    flat: bool = False
