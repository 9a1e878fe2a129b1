"""What was collected: replay buffers, rollouts, and the statistics that normalised them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ring:
    """A replay buffer as it lies in its ring, [capacity, environments, ...], unwritten rows among them.

    Its arrays are the file's bytes, never a copy. Libraries draw batches by place in the ring.
    """

    buffer_class: str | None
    """Dotted name."""
    position: int
    """Where the next row will be written."""
    is_full: bool
    is_shared: bool
    """Row i + 1 of the observations is row i's next observation."""
    observations: Mapping[str, Array]
    """Before any normalisation, key "" for a plain space: [capacity, environments, *shape]."""
    next_observations: Mapping[str, Array] | None
    """None where shared."""
    actions: Array | None
    """As the library stores them: scaled to -1..1 where continuous."""
    rewards: Array | None
    dones: Array | None
    """Episode ends, time limits among them."""
    timeouts: Array | None
    """Ends that are only time limits; None in files of SB3 before 2.1."""
    num_steps: int = 1
    """Steps of reward that a drawn transition sums up."""
    discount: float | None = None
    """Gamma of that sum; None for a plain buffer."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Valid rows of a replay buffer, in order of collection; its mappings put rows in order when asked."""

    source: Path
    format: str
    step: int | None = None
    step_from: str | None = None
    observations: Mapping[str, Array] = field(default_factory=dict)
    """As stored (before any normalisation), key "" for a plain space: [time, environments, *shape]."""
    next_observations: Mapping[str, Array] | None = None
    """None where the buffer is memory-optimised."""
    actions: Array | None = None
    rewards: Array | None = None
    ends: Array | None = None
    """dones x (1 - timeouts), [time, environments]."""
    num_environments: int = 1
    num_rows: int = 0
    """Valid observations: time x environments."""
    num_bytes: int = 0
    """Memory that its arrays hold."""
    capacity: int | None = None
    """Rows in time the buffer can hold."""
    overwritten: bool = False
    """Whether older rows have been lost to the ring."""
    ring: Ring | None = None
    """The same arrays as the library draws from them; None where batches cannot be drawn so."""
    ring_reason: str | None = None
    """Why there is no ring."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Rollout:
    """What an on-policy algorithm (PPO, A2C, RecurrentPPO) trained on after a checkpoint; the recorder's.

    Arrays are [steps, environments, ...], as the library's rollout buffer holds them before it draws.
    """

    source: Path
    step: int | None
    """Of the checkpoint whose weights collected the end of it and take its first update."""
    algorithm: str
    observations: Mapping[str, Array]
    """As the network saw them (after VecNormalize), key "" for a plain space."""
    actions: Array
    values: Array
    log_probs: Array
    advantages: Array
    """Before they are normalised per batch."""
    returns: Array
    episode_starts: Array
    lstm_states: Mapping[str, Array] = field(default_factory=dict)
    """hidden_states_pi, cell_states_pi, ..._vf: [steps, layers, environments, units]."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """As of its first update: clip_range, clip_range_vf, ent_coef, vf_coef, max_grad_norm, batch_size, ..."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Normalizer:
    """A VecNormalize file: obs' = clip((obs - mean) / sqrt(var + epsilon), -clip, clip)."""

    source: Path
    step: int | None = None
    step_from: str | None = None
    mean: Mapping[str, Array] = field(default_factory=dict)
    var: Mapping[str, Array] = field(default_factory=dict)
    epsilon: float = 1e-8
    clip: float = 10.0
    norm_observations: bool = True
    return_var: float | None = None
    clip_reward: float = 10.0
    norm_reward: bool = True
    notes: tuple[str, ...] = ()
