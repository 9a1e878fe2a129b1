"""What the network was fed: slices of the observation, and a step's window."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from gradscope.measure import resolve_slices, resting_values, slice_values
from gradscope.records import Observed, Slice
from gradscope.run.guess import guessed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gradscope.records import Normalizer, Replay
    from gradscope.run.find import RunFiles
    from gradscope.run.join import Moment
    from gradscope.settings import Settings

    Array: TypeAlias = NDArray[Any]


UNNAMED: Final = (
    "the file of --replay calls no rows observations, so which columns a slice is of is not known: "
    "say which they are with --replay-keys observations=KEY"
)


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
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one observation by key."""
        return shapes_of(self.raw)

    @property
    def num_rows(self) -> int:
        """Observations in the window."""
        return len(next(iter(self.raw.values()), ()))


def shapes_of(observations: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    """Shape of one observation by key."""
    return {key: each.shape[1:] for key, each in observations.items()}


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
    held = replay.num_rows // environments
    wanted = held
    notes: tuple[str, ...] = ("step unknown: every valid row",)
    if moment.step is not None:
        since = moment.previous_step or 0
        # SB3 saves before the newest transition is stored: the first window is one row short by design.
        wanted = (moment.step - since) // environments - (1 if moment.previous_step is None else 0)
        notes = ()
    taken = min(held, max(wanted, 0))
    raw = {key: _newest_rows(replay, key, taken) for key in replay.observations}
    normalizer = moment.normalizer if moment.normalizer and moment.normalizer.norm_observations else None
    if normalizer is not None:
        notes = (*notes, f"rms is of inputs normalised with {normalizer.source.name}")
    return Window(raw=raw, normalizer=normalizer, truncated=held < wanted, notes=notes)


def _newest_rows(replay: Replay, key: str, taken: int) -> Array:
    """The newest ``taken`` rows in time, environments side by side: [rows, *shape].

    Of a ring that has wrapped only these rows are copied, not the buffer.
    """
    if replay.ring is None:
        observations = replay.observations[key]
        newest = observations[len(observations) - taken :]
    else:
        observations, end = replay.ring.observations[key], replay.ring.position
        newest = observations[max(end - taken, 0) : end]
        if taken > end:
            newest = np.concatenate([observations[end - taken :], newest])
    return newest.reshape(-1, *observations.shape[2:])


def _normalized(raw: Mapping[str, Array], normalizer: Normalizer) -> Mapping[str, Array]:
    inputs = dict(raw)
    for key, mean in normalizer.mean.items():
        if key in raw and raw[key].shape[1:] == mean.shape:
            scaled = (raw[key] - mean) / np.sqrt(normalizer.var[key] + normalizer.epsilon)
            inputs[key] = np.clip(scaled, -normalizer.clip, normalizer.clip).astype(np.float32)
    return inputs


def run_slices(
    files: RunFiles,
    moments: Sequence[Moment],
    settings: Settings,
    of: Sequence[Moment] = (),
    named: Mapping[str, Array] | None = None,
) -> RunSlices:
    """Slices by option or configuration, else as recorded, else guessed from the replays.

    Args:
        files: of the whole run.
        moments: of the whole run.
        settings: slices, sequence length and names that were set.
        of: moments whose observations they must fit, where not all are looked at.
        named: observations of the file of --replay, where moments have none.

    Raises:
        UsageError: a selector does not fit the observations.
    """
    observed = _observed(files)
    length = settings.sequence_length or observed.sequence_length
    names = settings.feature_names or observed.feature_names
    normalised = any(each.norm_observations for each in files.normalizers)
    shapes = next((window.shapes for each in of or moments if (window := step_window(each))), None)
    beside = named if shapes is None and named else {}
    if shapes is None and not beside:
        return RunSlices(reason=_no_inputs(files) if named is None else UNNAMED)
    shapes = shapes or shapes_of(beside)
    selectors = settings.slices or observed.slices
    source = (settings.slices_from or "option") if settings.slices else "recorded"
    bare = RunSlices(source=source, sequence_length=length, feature_names=names)
    if not selectors:
        selectors, why_not = guessed(_collected(moments, shapes, beside), length)
        bare = replace(bare, source="guessed", reason=why_not)
    if not selectors:
        return bare
    first = beside or _earliest(moments, shapes, normalised=normalised)
    slices = resolve_slices(selectors, shapes=shapes, feature_names=names, sequence_length=length)
    resting = {each.name: resting_values(slice_values(first, each, length)) for each in slices}
    return replace(bare, slices=slices, shapes=shapes, normalised=normalised, resting=resting, reason=None)


def _collected(
    moments: Sequence[Moment], shapes: Mapping[str, tuple[int, ...]], beside: Mapping[str, Array]
) -> Iterator[Mapping[str, Array]]:
    """Rows of every step's replay, or those beside the run."""
    if beside:
        yield beside
    found = (_fitting_window(each, shapes) for each in moments if each.replay)
    yield from (each.raw for each in found if each and each.num_rows)


def _earliest(
    moments: Sequence[Moment], shapes: Mapping[str, tuple[int, ...]], *, normalised: bool
) -> Mapping[str, Array]:
    """The earliest rows; of normalised runs those of a replay, which holds what was collected."""
    early = sorted(moments, key=lambda each: normalised and each.replay is None)
    return next(window.raw for each in early if (window := _fitting_window(each, shapes)))


def _no_inputs(files: RunFiles) -> str:
    if files.replays:
        return f"no snapshot could claim {files.replays[0].replay.source.name}: the inputs are not known"
    return "no replay buffer and no recorded batch: the inputs are not known"


def _observed(files: RunFiles) -> Observed:
    recorded = (each.observed for each in files.recorded)
    timelines = (each.observed for each in files.timelines)
    return next((each for each in (*recorded, *timelines) if each is not None), Observed())


def fitting_window(moment: Moment, known: RunSlices) -> Window | None:
    """The step's window, where its observations have the shape that the slices are columns of."""
    return _fitting_window(moment, known.shapes)


def _fitting_window(moment: Moment, shapes: Mapping[str, tuple[int, ...]]) -> Window | None:
    window = step_window(moment)
    return window if window is not None and window.shapes == shapes else None
