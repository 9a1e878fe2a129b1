"""True gradients of a moment from its checkpoint and what it was trained on; torch is imported only here."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Final

from gradscope.errors import UsageError
from gradscope.read.memory import check_room
from gradscope.run.tallied import tallied

if TYPE_CHECKING:
    from pathlib import Path

    from gradscope.read.sb3_training import Sb3Training
    from gradscope.recompute.trusted.user_code import UserCode
    from gradscope.records import Replay, Ring, Rollout, Snapshot
    from gradscope.run.counted import Counted
    from gradscope.run.given import Means
    from gradscope.run.inputs import Array, RunSlices
    from gradscope.run.join import Moment
    from gradscope.run.tallied import Recomputation

NO_REPLAY: Final = (
    "no replay buffer of this step: save one with each checkpoint (save_replay_buffer=True) "
    "or name one with --replay"
)
ON_POLICY: Final = ("PPO", "A2C", "RecurrentPPO")
NO_ROLLOUT: Final = "{} saves no rollout; record it: GradscopeCallback(..., save_rollout=True)"
SDE: Final = "state-dependent exploration (gSDE) is not recomputed"
NO_CHECKPOINT: Final = "only a recorder file is here: recomputing needs the checkpoint"
NOT_SB3: Final = (
    "which model and loss this checkpoint belongs to is not known: name them with --model, "
    "or store gradients in training"
)
NO_BATCH_SIZE: Final = "the checkpoint does not say its batch size: give --batch-size"
NO_ROWS: Final = "--model needs rows for its loss: name a batch file with --replay"
NO_CONSENT: Final = "--model runs code of your own: say that it may with --trust (Settings(trust=True))"
SB3: Final = "sb3"
TORCH_BYTES: Final = 256 << 20
"""Private memory that importing torch and a first small batch take; OpenBLAS ends the process without it."""
ROWS_OF_A_BUFFER: Final = 256
"""Batch size where --model draws from a replay buffer: Stable-Baselines3's own default."""


def recomputed(moment: Moment, known: RunSlices, means: Means) -> Counted | str:
    """Counts of the recomputed gradients, or the reason why there are none.

    Raises:
        UnreadableFile: a file changed or broke since it was opened.
    """
    found = recomputation(moment, means)
    if isinstance(found, str):
        return found
    is_rollout = means.given.rollout is not None or moment.rollout is not None
    try:
        # A rollout holds what VecNormalize left: where its columns rest is not known.
        return tallied(found, means.settings, known, is_raw=not (is_rollout and known.normalised))
    except UsageError as error:
        # Code of the user's that failed on a later batch: the other snapshots go on.
        return str(error)


def recomputation(moment: Moment, means: Means) -> Recomputation | str:
    """The gradients themselves, computed when its batches are asked for; or why there are none.

    Raises:
        UnreadableFile: a file changed or broke since it was opened.
        MemoryError: there is no room for torch.
    """
    checkpoint = moment.checkpoint
    if checkpoint is None:
        return NO_CHECKPOINT
    if "torch" not in sys.modules:
        check_room(TORCH_BYTES)
    if means.settings.model is not None:
        return _by_model(means.settings.model, checkpoint, moment, means)
    if checkpoint.format != SB3:
        return NOT_SB3
    from gradscope.read.sb3_training import sb3_training  # noqa: PLC0415  only where it is needed

    return _by_algorithm(sb3_training(checkpoint.source), moment, means)


def _by_algorithm(training: Sb3Training, moment: Moment, means: Means) -> Recomputation | str:
    rollout = means.given.rollout or moment.rollout
    if rollout is not None:
        return _on_policy(training, rollout, means)
    ring = _ring(moment, means)
    if ring is not None:
        return _off_policy(training, ring, moment, means)
    if training.settings.get("use_sde") is True:
        return SDE
    algorithm = moment.main.algorithm
    if algorithm in ON_POLICY:
        return NO_ROLLOUT.format(algorithm)
    replay = _replay(moment, means)
    if replay is not None and replay.ring_reason is not None:
        return replay.ring_reason
    broken = means.broken.get(moment.step)
    return NO_REPLAY if broken is None else f"{broken} could not be read"


def _off_policy(training: Sb3Training, ring: Ring, moment: Moment, means: Means) -> Recomputation | str:
    from gradscope.recompute import Refusal, recompute_gradients  # noqa: PLC0415  torch, lazily

    settings = means.settings
    size = settings.batch_size or training.settings.get("batch_size")
    if not isinstance(size, int):
        return NO_BATCH_SIZE
    found = recompute_gradients(
        training,
        ring,
        moment.normalizer,
        batches=settings.batches,
        batch_size=size,
        seed=settings.seed,
        user_code=_user_code(training.source, means),
    )
    return found.reason if isinstance(found, Refusal) else found


def _on_policy(training: Sb3Training, rollout: Rollout, means: Means) -> Recomputation | str:
    from gradscope.recompute import Refusal  # noqa: PLC0415  torch, lazily
    from gradscope.recompute.rollout_gradients import recompute_rollout  # noqa: PLC0415

    settings = means.settings
    found = recompute_rollout(
        training,
        rollout,
        batches=settings.batches,
        batch_size=settings.batch_size,
        seed=settings.seed,
        user_code=_user_code(training.source, means),
    )
    return found.reason if isinstance(found, Refusal) else found


def _by_model(spec: str, checkpoint: Snapshot, moment: Moment, means: Means) -> Recomputation | str:
    from gradscope.read.saved_optimizer import saved_optimizer  # noqa: PLC0415  only where it is needed
    from gradscope.recompute import Refusal  # noqa: PLC0415  torch, lazily
    from gradscope.recompute.trusted.model import recompute_model  # noqa: PLC0415

    settings, rows, size = means.settings, means.given.rows, means.settings.batch_size
    if not settings.trust:
        return NO_CONSENT
    if rows is None:
        replay = _replay(moment, means)
        rows = None if replay is None else _rows(replay)
        size = size or ROWS_OF_A_BUFFER
    if not rows:
        return NO_ROWS
    means.announced((spec,))
    found = recompute_model(
        spec,
        checkpoint.state,
        rows,
        batches=settings.batches,
        batch_size=size,
        seed=settings.seed,
        code=settings.code,
        saved=partial(saved_optimizer, checkpoint.source),
    )
    return found.reason if isinstance(found, Refusal) else found


def _replay(moment: Moment, means: Means) -> Replay | None:
    if means.given.replay is not None:
        return means.given.replay
    return moment.replay.opened() if moment.replay is not None else None


def _ring(moment: Moment, means: Means) -> Ring | None:
    replay = _replay(moment, means)
    return None if replay is None else replay.ring


def _rows(replay: Replay) -> dict[str, Array]:
    """Valid rows of a replay by name, environments side by side; views where a ring is not full."""
    from gradscope.run.transitions import rows_of  # noqa: PLC0415

    return rows_of(replay)


def _user_code(path: Path, means: Means) -> UserCode | None:
    if not means.settings.trust:
        return None
    from gradscope.read.sb3_blobs import sb3_blobs  # noqa: PLC0415  only after consent
    from gradscope.recompute.trusted.user_code import UserCode  # noqa: PLC0415

    return UserCode(blobs=sb3_blobs(path), folder=means.settings.code, announce=means.announced)
