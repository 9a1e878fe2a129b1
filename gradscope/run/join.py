"""Checkpoint, recorder file, replay buffer and normalizer of one step become one moment."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from gradscope.run.claims import Claims, prefix
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
    buffers = Claims(items=replays, source_of=lambda each: each.replay.source)
    normalizers = Claims(items=by_step(files.normalizers, lambda each: each.step), source_of=_source)
    rollouts = Claims(items=by_step(files.rollouts, lambda each: each.step), source_of=_source)
    twins_of = by_step(files.checkpoints, lambda each: each.step)
    recorded_too = {pair[0].source for pair in pairs if pair[0] is not None and pair[1] is not None}
    doubles = doubles_of([pair[0] for pair in pairs if pair[0] is not None], files.folder, recorded_too)
    result = []
    for pair in pairs:
        checkpoint, recorded = pair
        step = _step(pair)
        place = 0 if step is None else bisect_left(known, step)
        double = doubles.get(checkpoint.source) if checkpoint is not None else None
        # What doubles another one is measured on the other's buffer.
        own = double.source if double else checkpoint.source if checkpoint is not None else None
        asked = own, [each.source for each in twins_of.get(step, ()) if each.source not in doubles], step
        is_alone, claimed = len(pairs) == 1, buffers.of(*asked)
        result.append(
            Moment(
                run=files.run,
                step=step,
                previous_step=known[place - 1] if place else None,
                checkpoint=checkpoint,
                recorded=recorded,
                replay=_named_alike(replays, checkpoint) or _first(claimed) or _alone(buffers, is_alone),
                # Of the run's only one, statistics move slowly.
                normalizer=_first(normalizers.of(*asked)) or normalizers.only(),
                rollout=_first(rollouts.of(*asked)) or _alone(rollouts, is_alone),
                double_of=double.source if double else None,
                notes=(
                    *([double.note] if double else _tie_notes(checkpoint, twins_of, doubles, files.folder)),
                    *_buffer_ties(claimed, step),
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
    alike = [each for each in same if prefix(each.source) == prefix(checkpoint.source)]
    if alike:
        return alike[0]
    named = {prefix(each.source) for each in twins}
    free = [each for each in same if prefix(each.source) not in named]
    return free[0] if free and twins[0] is checkpoint else None


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


def _buffer_ties(same: Sequence[ReplayFileOpened], step: int | None) -> tuple[str, ...]:
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


def _source(item: Normalizer | Rollout) -> Path:
    return item.source


def _first(items: Sequence[Item]) -> Item | None:
    return items[0] if items else None


def _alone(claims: Claims[Item], is_alone: bool) -> Item | None:
    """One without a step belongs to the only snapshot, where it is the run's only one."""
    return claims.only() if is_alone else None


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
