"""Whether a replay buffer and its VecNormalize file belong to a checkpoint, and can be drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from gradscope.recompute.batches import num_transitions
from gradscope.recompute.networks import Mismatch
from gradscope.recompute.observation_checks import check_observations
from gradscope.settings import MAX_SEED

if TYPE_CHECKING:
    from gradscope.recompute.batches import Drawing
    from gradscope.recompute.inputs import Training
    from gradscope.records import Normalizer, Ring

_BUFFER: Final = "stable_baselines3.common.buffers.ReplayBuffer"
_DICT: Final = "stable_baselines3.common.buffers.DictReplayBuffer"
_MANY_STEPS: Final = "stable_baselines3.common.buffers.NStepReplayBuffer"
_MAX_STEPS: Final = 1000
CHOOSERS: Final = frozenset({"DQN", "QRDQN"})
"""Algorithms with discrete actions, no actor, targets that follow between checkpoint and train()."""


def check_drawing(training: Training, drawing: Drawing) -> None:
    """Everything about the batches that can be told before one is drawn.

    Raises:
        Mismatch: they cannot be drawn, or not as the library draws them.
    """
    _check_ring(training, drawing.ring)
    _check_normalizer(drawing.ring, drawing.normalizer)
    _check_size(drawing)


def _check_size(drawing: Drawing) -> None:
    rows, size = num_transitions(drawing.ring), drawing.batch_size
    if drawing.num_batches < 1 or size < 1:
        raise Mismatch(f"{drawing.num_batches} batches of {size} rows are no batches")
    if size > rows:
        raise Mismatch(f"a batch of {size} is larger than the buffer's {rows} valid rows")
    if not 0 <= drawing.seed <= MAX_SEED:
        raise Mismatch(f"the seed must be between 0 and {MAX_SEED}, not {drawing.seed}")


def _check_ring(training: Training, ring: Ring) -> None:
    if ring.buffer_class not in {_BUFFER, _DICT, _MANY_STEPS}:
        raise Mismatch(f"batches of {ring.buffer_class} are not drawn, only those of a plain ReplayBuffer")
    is_plain = ring.num_steps == 1 and ring.discount is None
    is_complete = ring.discount is not None and ring.timeouts is not None and not ring.is_shared
    if not (is_complete and ring.num_steps <= _MAX_STEPS if ring.buffer_class == _MANY_STEPS else is_plain):
        raise Mismatch("the buffer's n-step settings do not fit its class")
    _check_arrays(training, ring)
    assert ring.actions is not None
    there, environments = ring.actions.shape[1], training.settings.get("n_envs")
    if environments != there:
        raise Mismatch(f"the buffer has {there} environments, the checkpoint {environments}")
    check_observations(training, ring)


def _check_arrays(training: Training, ring: Ring) -> None:
    numbers = (ring.rewards, ring.dones, ring.timeouts)
    if ring.actions is None or ring.rewards is None or ring.dones is None:
        raise Mismatch("the buffer lacks actions, rewards or ends as plain arrays")
    if any(each is not None and (each.ndim != 2 or each.dtype != np.float32) for each in numbers):  # noqa: PLR2004
        raise Mismatch("the buffer's rewards and ends are no single floats")
    is_choice = training.algorithm in CHOOSERS
    fits = ring.actions.dtype.kind in "iu" if is_choice else ring.actions.dtype == np.float32
    if not fits or ring.actions.ndim != 3:  # noqa: PLR2004 - rows, environments, actions
        raise Mismatch(f"the buffer's actions are {ring.actions.dtype}: it belongs to another run")


def check_choices(ring: Ring, num_choices: int) -> None:
    """Discrete actions must be among the network's outputs.

    Raises:
        Mismatch: they are not.
    """
    assert ring.actions is not None
    valid = ring.actions if ring.is_full else ring.actions[: ring.position]
    if ring.actions.shape[2:] != (1,) or (valid.size and not 0 <= valid.min() <= valid.max() < num_choices):
        raise Mismatch(f"the buffer's actions are not among the network's {num_choices}")


def _check_normalizer(ring: Ring, normalizer: Normalizer | None) -> None:
    if normalizer is None:
        return
    # Of a Dict space, VecNormalize may leave keys alone (norm_obs_keys).
    keys = set(normalizer.mean) | set(normalizer.var) | ({""} & set(ring.observations))
    shapes = {key: array.shape[2:] for key, array in ring.observations.items()}
    sizes = [(key, each.get(key)) for key in keys for each in (normalizer.mean, normalizer.var)]
    if normalizer.norm_observations and any(
        key not in shapes or each is None or each.shape != shapes[key] for key, each in sizes
    ):
        raise Mismatch("the VecNormalize file's statistics do not fit the observations")
    if normalizer.norm_reward and normalizer.return_var is None:
        raise Mismatch("the VecNormalize file holds no variance of returns")
