"""What the network was fed: slices of the observation, a step's window, the activity of a slice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from gradscope.measure import active_rows, guess_slices, resolve_slices, resting_values, slice_values
from gradscope.records import Observed, Slice
from gradscope.run.recorded import POSITION, counted_as

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gradscope.records import Normalizer, Replay, Snapshot
    from gradscope.run.find import RunFiles
    from gradscope.run.join import Moment
    from gradscope.settings import Settings

    Array: TypeAlias = NDArray[Any]

MARKET: Final = "market"
NOT_AT_REST: Final = "normalised batch: the resting value is not known"
NO_SLICES: Final = "no slices are set, and they"
MAX_GUESSED_COLUMNS: Final = 65_536
"""Wider observations are images: their columns are no features to guess slices from."""


@dataclass(frozen=True, kw_only=True)
class RunSlices:
    """Slices of one run's observations and how they are known."""

    slices: tuple[Slice, ...] = ()
    source: str = "guessed"
    sequence_length: int | None = None
    feature_names: tuple[str, ...] | None = None
    reason: str | None = None
    """Why there are none."""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Observation shape by key."""
    normalised: bool = False
    """Whether recorded batches went through VecNormalize: what they rest at moves from step to step."""
    resting: Mapping[str, Array] = field(default_factory=dict)
    """Per slice: the value each column rests at, from the earliest rows of the run."""

    def named(self, name: str) -> Slice | None:
        """The slice of this name."""
        return next((each for each in self.slices if each.name == name), None)


@dataclass(frozen=True, kw_only=True)
class Activity:
    """How many rows have a slice away from rest."""

    fraction: float | None = None
    num_active: int | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Window:
    """Rows a step's statistics speak of, by observation key: [rows, *shape]."""

    raw: Mapping[str, Array]
    normalizer: Normalizer | None = None
    truncated: bool = False
    notes: tuple[str, ...] = ()

    def inputs(self) -> Mapping[str, Array]:
        """The rows as the network saw them: after VecNormalize."""
        return _normalized(self.raw, self.normalizer) if self.normalizer else self.raw

    @property
    def num_rows(self) -> int:
        """Observations in the window."""
        return len(next(iter(self.raw.values()), ()))


def step_window(moment: Moment) -> Window | None:
    """What was collected since the previous checkpoint: of the replay, else the recorded batch."""
    if moment.replay is not None:
        return _replay_window(moment.replay.opened(), moment)
    if moment.recorded is not None and moment.recorded.observations:
        batch = moment.recorded.observations
        note = "no replay buffer: rows of the recorded batch, as the network sees them"
        return Window(raw=batch, notes=(note,))
    return None


def _replay_window(replay: Replay, moment: Moment) -> Window:
    environments = max(replay.num_environments, 1)
    held = next((len(each) for each in replay.observations.values()), 0)
    wanted = held
    notes: tuple[str, ...] = ("step unknown: every valid row",)
    if moment.step is not None:
        since = moment.previous_step or 0
        # SB3 saves before the newest transition is stored: the first window is one row short by design.
        wanted = (moment.step - since) // environments - (1 if moment.previous_step is None else 0)
        notes = ()
    taken = min(held, max(wanted, 0))
    raw = {key: _rows(each, taken) for key, each in replay.observations.items()}
    normalizer = moment.normalizer if moment.normalizer and moment.normalizer.norm_observations else None
    if normalizer is not None:
        notes = (*notes, f"rms is of inputs normalised with {normalizer.source.name}")
    return Window(raw=raw, normalizer=normalizer, truncated=held < wanted, notes=notes)


def _rows(observations: Array, taken: int) -> Array:
    """The newest ``taken`` rows in time, environments side by side: [rows, *shape]."""
    newest = observations[len(observations) - taken :]
    return newest.reshape(-1, *observations.shape[2:])


def _normalized(raw: Mapping[str, Array], normalizer: Normalizer) -> Mapping[str, Array]:
    inputs = dict(raw)
    for key, mean in normalizer.mean.items():
        if key in raw and raw[key].shape[1:] == mean.shape:
            scaled = (raw[key] - mean) / np.sqrt(normalizer.var[key] + normalizer.epsilon)
            inputs[key] = np.clip(scaled, -normalizer.clip, normalizer.clip).astype(np.float32)
    return inputs


def run_slices(files: RunFiles, moments: Sequence[Moment], settings: Settings) -> RunSlices:
    """Slices by option or configuration, else as recorded, else guessed from the replays.

    Raises:
        UsageError: a selector does not fit the observations.
    """
    observed = _observed(files)
    length = settings.sequence_length or observed.sequence_length
    names = settings.feature_names or observed.feature_names
    normalised = any(each.norm_observations for each in files.normalizers)
    # Replays hold observations as collected; recorded batches only where nothing normalised them.
    early = sorted(moments, key=lambda moment: normalised and moment.replay is None)
    first = next((window for moment in early if (window := step_window(moment)) is not None), None)
    if first is None:
        return RunSlices(reason=_no_inputs(files))
    shapes = {key: each.shape[1:] for key, each in first.raw.items()}
    selectors = settings.slices or observed.slices
    source = (settings.slices_from or "option") if settings.slices else "recorded"
    if not selectors:
        source = "guessed"
        selectors, why_not = _guessed(moments, length)
    if not selectors:
        return RunSlices(source=source, sequence_length=length, feature_names=names, reason=why_not)
    slices = resolve_slices(selectors, shapes=shapes, feature_names=names, sequence_length=length)
    return RunSlices(
        slices=slices,
        source=source,
        sequence_length=length,
        feature_names=names,
        shapes=shapes,
        normalised=normalised,
        resting={each.name: resting_values(slice_values(first.raw, each, length)) for each in slices},
    )


def _no_inputs(files: RunFiles) -> str:
    if files.replays:
        return f"no snapshot could claim {files.replays[0].replay.source.name}: the inputs are not known"
    return "no replay buffer and no recorded batch: the inputs are not known"


def _observed(files: RunFiles) -> Observed:
    recorded = (each.observed for each in files.recorded)
    timelines = (each.observed for each in files.timelines)
    return next((each for each in (*recorded, *timelines) if each is not None), Observed())


def _guessed(moments: Sequence[Moment], length: int | None) -> tuple[dict[str, tuple[str, ...]], str]:
    """Columns of the newest bar that are constant in the earliest replay and vary later: `position`.

    Also why there are none.
    """
    extremes: list[Array] = []
    for moment in moments:
        window = step_window(moment) if moment.replay else None
        if window is None or not window.num_rows:
            continue
        if set(window.raw) != {""}:
            keys = ", ".join(window.raw)
            return (
                {},
                f"{NO_SLICES} are not guessed from Dict observations; try --slice position=key:NAME ({keys})",
            )
        rows = window.raw[""]
        if np.prod(rows.shape[1:]) > MAX_GUESSED_COLUMNS:
            return {}, f"{NO_SLICES} are not guessed from images; try --slice position=A:B"
        bars = slice_values({"": rows}, None, length)
        extremes.append(np.stack([bars.min(axis=0), bars.max(axis=0)]))
    if len(extremes) < 2:  # noqa: PLR2004 - earliest and later
        return (
            {},
            f"{NO_SLICES} are guessed from replay buffers of two steps or more; try --slice position=A:B",
        )
    guess = guess_slices(extremes)
    if guess:
        return {POSITION: guess}, ""
    return {}, "no slices are set, and no column is constant early and varies later; try --slice position=A:B"


def activity(moment: Moment, known: RunSlices, name: str = POSITION) -> Activity:
    """Rows with the slice away from rest: in the gradient's own batch, else in the step's window."""
    wanted = known.named(name)
    keys = ("position_activity", "num_open_positions")
    if wanted is None:
        reason = known.reason or f"no slice is called {name!r}; try --slice {name}=A:B"
        return Activity(reasons=dict.fromkeys(keys, reason))
    recorded = moment.recorded
    if recorded is not None and counted_as(recorded.observed, wanted, known.shapes):
        counted = _as_recorded(recorded)
        if counted is not None:
            return counted
    has_batch = recorded is not None and bool(recorded.observations)
    if recorded is not None and has_batch and not known.normalised:
        return _counted(recorded.observations, wanted, known)
    if moment.replay is None and has_batch:
        return Activity(reasons=dict.fromkeys(keys, NOT_AT_REST))
    window = step_window(moment)
    if window is None or not window.num_rows:
        return Activity(reasons=dict.fromkeys(keys, "no replay buffer and no recorded batch of this step"))
    return _counted(window.raw, wanted, known)


def _as_recorded(recorded: Snapshot) -> Activity | None:
    """The recorder's own count: it knew where a normalised column rests; a batch alone does not tell."""
    if recorded.num_active is None or not recorded.num_rows:
        return None
    return Activity(fraction=recorded.num_active / recorded.num_rows, num_active=recorded.num_active)


def _counted(observations: Mapping[str, Array], wanted: Slice, known: RunSlices) -> Activity:
    values = slice_values(observations, wanted, known.sequence_length)
    active = active_rows(values, known.resting[wanted.name])
    return Activity(fraction=float(active.mean()), num_active=int(active.sum()))
