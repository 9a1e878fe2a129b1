"""Checkpoint, recorder file, replay buffer and normalizer of one step become one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gradscope.records import Normalizer, Rollout, Snapshot
    from gradscope.run.find import ReplayFileOpened, RunFiles

    Pair = tuple[Snapshot | None, Snapshot | None, tuple[str, ...]]

Item = TypeVar("Item")


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
    notes: tuple[str, ...] = ()

    @property
    def main(self) -> Snapshot:
        """The checkpoint, or the recorder file that stands alone."""
        snapshot = self.checkpoint or self.recorded
        assert snapshot is not None
        return snapshot


def moments(files: RunFiles) -> list[Moment]:
    """Moments of one run: by step (unknown last), then by file name."""
    pairs = _pairs(files)
    pairs.sort(key=lambda pair: _order(pair[0] or pair[1]))
    known = sorted(
        {step for checkpoint, recorded, _ in pairs if (step := _step(checkpoint, recorded)) is not None}
    )
    result = []
    for checkpoint, recorded, notes in pairs:
        step = _step(checkpoint, recorded)
        earlier = [each for each in known if step is not None and each < step]
        result.append(
            Moment(
                run=files.run,
                step=step,
                previous_step=earlier[-1] if earlier else None,
                checkpoint=checkpoint,
                recorded=recorded,
                replay=_belonging(files.replays, lambda each: each.replay.step, step, len(pairs)),
                normalizer=_normalizer(files.normalizers, step),
                rollout=_belonging(files.rollouts, lambda each: each.step, step, len(pairs)),
                notes=(*notes, *_buffer_ties(files.replays, step)),
            )
        )
    return result


def _pairs(files: RunFiles) -> list[Pair]:
    left = list(files.recorded)
    pairs: list[Pair] = []
    for checkpoint in files.checkpoints:
        twins = [each for each in files.checkpoints if each.step == checkpoint.step]
        recorded = _recorded_for(checkpoint, twins, left)
        if recorded is not None:
            left.remove(recorded)
        pairs.append((checkpoint, recorded, _tie_notes(checkpoint, twins)))
    pairs.extend((None, recorded, ()) for recorded in left)
    return pairs


def _recorded_for(
    checkpoint: Snapshot, twins: Sequence[Snapshot], left: Sequence[Snapshot]
) -> Snapshot | None:
    """The recorder file of the checkpoint's step; among checkpoints of one step, the one named alike."""
    if checkpoint.step is None:
        return None
    same = [each for each in left if each.step == checkpoint.step]
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


def _tie_notes(checkpoint: Snapshot, twins: Sequence[Snapshot]) -> tuple[str, ...]:
    if checkpoint.step is None or len(twins) == 1:
        return ()
    others = ", ".join(each.source.name for each in twins if each is not checkpoint)
    return (f"step {checkpoint.step} is claimed by {others} too",)


def _buffer_ties(replays: Sequence[ReplayFileOpened], step: int | None) -> tuple[str, ...]:
    names = [each.replay.source.name for each in replays if step is not None and each.replay.step == step]
    return (f"of several buffers of step {step} {names[0]} is used",) if len(names) > 1 else ()


def _belonging(
    items: Sequence[Item], step_of: Callable[[Item], int | None], step: int | None, num_moments: int
) -> Item | None:
    """The item of this step; one without a step belongs to the only snapshot, or is the run's only one."""
    same = [each for each in items if step is not None and step_of(each) == step]
    if same:
        return same[0]
    return items[0] if len(items) == 1 and step_of(items[0]) is None and num_moments == 1 else None


def _normalizer(items: Sequence[Normalizer], step: int | None) -> Normalizer | None:
    """The normalizer of this step, else the run's only one (its statistics move slowly)."""
    same = [each for each in items if step is not None and each.step == step]
    if same:
        return same[0]
    return items[0] if len(items) == 1 and items[0].step is None else None


def _step(checkpoint: Snapshot | None, recorded: Snapshot | None) -> int | None:
    snapshot = checkpoint or recorded
    return snapshot.step if snapshot else None


def _order(snapshot: Snapshot | None) -> tuple[bool, int, str]:
    assert snapshot is not None
    return snapshot.step is None, snapshot.step or 0, snapshot.source.name
