"""Checkpoint, recorder file, replay buffer and normalizer of one step become one moment."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from gradscope.run.doubles import doubles_of, roles_of, within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from gradscope.records import Normalizer, Rollout, Snapshot
    from gradscope.run.doubles import Double
    from gradscope.run.find import ReplayFileOpened, RunFiles

    Pair = tuple[Snapshot | None, Snapshot | None]

Item = TypeVar("Item")
MOST_NAMED: Final = 3
"""Files of one step that a note names."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One snapshot of a run with everything that belongs to it."""

    run: str
    step: int | None
    previous_step: int | None
    checkpoint: Snapshot | None
    recorded: Snapshot | None
    replay: ReplayFileOpened | None
    normalizer: Normalizer | None
    rollout: Rollout | None = None
    double_of: Path | None = None
    """The file that counts in this one's place in crossings and series: a copy, or another of its step."""
    notes: tuple[str, ...] = ()

    @property
    def main(self) -> Snapshot:
        """The checkpoint, or the recorder file that stands alone."""
        snapshot = self.checkpoint or self.recorded
        assert snapshot is not None
        return snapshot


def moments(files: RunFiles) -> list[Moment]:
    """Moments of one run: by step (unknown last), then by file name."""
    pairs = sorted(_pairs(files), key=lambda pair: _order(pair[0] or pair[1]))
    known = sorted({step for pair in pairs if (step := _step(pair)) is not None})
    replays = by_step(files.replays, lambda each: each.replay.step)
    normalizers = by_step(files.normalizers, lambda each: each.step)
    rollouts = by_step(files.rollouts, lambda each: each.step)
    twins_of = by_step(files.checkpoints, lambda each: each.step)
    recorded_too = {pair[0].source for pair in pairs if pair[0] is not None and pair[1] is not None}
    doubles = doubles_of([pair[0] for pair in pairs if pair[0] is not None], files.folder, recorded_too)
    result = []
    for pair in pairs:
        checkpoint, recorded = pair
        step = _step(pair)
        place = 0 if step is None else bisect_left(known, step)
        double = doubles.get(checkpoint.source) if checkpoint is not None else None
        result.append(
            Moment(
                run=files.run,
                step=step,
                previous_step=known[place - 1] if place else None,
                checkpoint=checkpoint,
                recorded=recorded,
                replay=_named_alike(replays, checkpoint) or _belonging(replays, step, len(pairs)),
                normalizer=_normalizer(normalizers, step),
                rollout=_belonging(rollouts, step, len(pairs)),
                double_of=double.source if double else None,
                notes=(
                    *([double.note] if double else _tie_notes(checkpoint, twins_of, doubles, files.folder)),
                    *_buffer_ties(replays, step),
                ),
            )
        )
    return result


def by_step(items: Iterable[Item], step_of: Callable[[Item], int | None]) -> dict[int | None, list[Item]]:
    """Items by their step, in order."""
    found: dict[int | None, list[Item]] = {}
    for each in items:
        found.setdefault(step_of(each), []).append(each)
    return found


def _pairs(files: RunFiles) -> list[Pair]:
    twins_of = by_step(files.checkpoints, lambda each: each.step)
    left = by_step(files.recorded, lambda each: each.step)
    pairs: list[Pair] = []
    for checkpoint in files.checkpoints:
        twins = twins_of[checkpoint.step]
        recorded = _recorded_for(checkpoint, twins, left.get(checkpoint.step, ()))
        if recorded is not None:
            left[checkpoint.step].remove(recorded)
        pairs.append((checkpoint, recorded))
    pairs.extend((None, recorded) for each in left.values() for recorded in each)
    return pairs


def _recorded_for(
    checkpoint: Snapshot, twins: Sequence[Snapshot], same: Sequence[Snapshot]
) -> Snapshot | None:
    """Of the recorder files of the checkpoint's step that are left: the one named alike, else the first's."""
    if checkpoint.step is None or not same:
        return None
    alike = [each for each in same if _prefix(each.source) == _prefix(checkpoint.source)]
    if alike:
        return alike[0]
    named = {_prefix(each.source) for each in twins}
    free = [each for each in same if _prefix(each.source) not in named]
    return free[0] if free and twins[0] is checkpoint else None


def _prefix(path: Path) -> str:
    """What the callback was told to begin names with: rl_model of rl_model_gradscope_2000_steps."""
    stem = path.name.removesuffix(".safetensors").removesuffix(".zip").removesuffix("_steps")
    return stem.rstrip("0123456789").rstrip("_").removesuffix("_gradscope")


def _tie_notes(
    checkpoint: Snapshot | None,
    twins_of: Mapping[int | None, list[Snapshot]],
    doubles: Mapping[Path, Double],
    folder: Path,
) -> tuple[str, ...]:
    """Other checkpoints of the same step; what doubles one says so itself."""
    if checkpoint is None or checkpoint.step is None:
        return ()
    twins = [each for each in twins_of[checkpoint.step] if each is not checkpoint]
    others = [within(each.source, folder) for each in twins if each.source not in doubles]
    if not others:
        return ()
    more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
    return (f"step {checkpoint.step} is claimed by {', '.join(others[:MOST_NAMED])}{more} too",)


def _buffer_ties(replays: Mapping[int | None, list[ReplayFileOpened]], step: int | None) -> tuple[str, ...]:
    same = replays.get(step, ()) if step is not None else ()
    return (
        (f"of several buffers of step {step} {same[0].replay.source.name} is used",) if len(same) > 1 else ()
    )


def _named_alike(
    replays: Mapping[int | None, list[ReplayFileOpened]], checkpoint: Snapshot | None
) -> ReplayFileOpened | None:
    """The one buffer without a step that is called final, last, ... as the checkpoint is.

    What is saved after training is one transition on from what a callback saved at the same step.
    """
    roles = roles_of(checkpoint.source.name) if checkpoint is not None else frozenset()
    alike = [each for each in replays.get(None, ()) if roles and roles_of(each.replay.source.name) == roles]
    return alike[0] if len(alike) == 1 else None


def _belonging(items: Mapping[int | None, list[Item]], step: int | None, num_moments: int) -> Item | None:
    """The item of this step; one without a step belongs to the only snapshot, or is the run's only one."""
    if step is not None and step in items:
        return items[step][0]
    return _only(items) if num_moments == 1 else None


def _normalizer(items: Mapping[int | None, list[Normalizer]], step: int | None) -> Normalizer | None:
    """The normalizer of this step, else the run's only one (its statistics move slowly)."""
    return items[step][0] if step is not None and step in items else _only(items)


def _only(items: Mapping[int | None, list[Item]]) -> Item | None:
    """The one item there is, where it has no step."""
    return items[None][0] if list(items) == [None] and len(items[None]) == 1 else None


def _step(pair: Pair) -> int | None:
    snapshot = pair[0] or pair[1]
    return snapshot.step if snapshot else None


def _order(snapshot: Snapshot | None) -> tuple[bool, int, tuple[tuple[int, str], ...]]:
    assert snapshot is not None
    return snapshot.step is None, snapshot.step or 0, natural(snapshot.source)


def natural(path: Path) -> tuple[tuple[int, str], ...]:
    """A path's parts with their numbers as numbers, to sort by: agent9 before agent10."""
    parts = re.split(r"([0-9]{1,18})", path.as_posix())
    return tuple((int(each), "") if at % 2 else (-1, each) for at, each in enumerate(parts))
