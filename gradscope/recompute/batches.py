"""The batches that Stable-Baselines3's buffers draw, from random states of our own.

Source: stable_baselines3/common/buffers.py and vec_env/vec_normalize.py. The order of draws is part
of the result: rows, environments, then the policy's noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradscope.recompute.mapped import release

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradscope.recompute.roles import Observations
    from gradscope.records import Normalizer, Ring

    Array = NDArray[Any]
    Arrays = Mapping[str, Array]
    """By key of the space, "" for a plain one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """Random states as set_random_seed(seed) leaves numpy's and torch's; the global ones stay untouched."""

    rows: np.random.RandomState
    noise: torch.Generator


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """One batch as the losses see it, [rows, ...], after VecNormalize."""

    observations: Observations
    actions: torch.Tensor
    next_observations: Observations
    ends: torch.Tensor
    """dones x (1 - timeouts), [rows, 1]."""
    rewards: torch.Tensor
    """[rows, 1]."""
    discounts: torch.Tensor | None
    """Of the value behind each row, [rows, 1]; None where it is gamma."""
    stored_observations: Arrays
    """Before normalisation."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    """Which batches are drawn."""

    ring: Ring
    normalizer: Normalizer | None
    num_batches: int
    batch_size: int
    """Rows of a batch."""
    seed: int
    """As given to set_random_seed: numpy's and torch's."""


def draws(seed: int) -> Draws:
    """Random states of one seed."""
    return Draws(rows=np.random.RandomState(seed), noise=torch.Generator().manual_seed(seed))


def num_transitions(ring: Ring) -> int:
    """Transitions a batch can hold: time x environments."""
    capacity, environments = next(iter(ring.observations.values())).shape[:2]
    rows = capacity - ring.is_shared if ring.is_full else ring.position
    return int(rows * environments)


def batch(drawing: Drawing, rows: np.random.RandomState) -> Batch:
    """The next batch, drawn with replacement as the library draws it."""
    ring, normalizer, size = drawing.ring, drawing.normalizer, drawing.batch_size
    actions = _there(ring.actions)
    capacity, num_environments = actions.shape[:2]
    if ring.is_full and ring.is_shared:
        # The row at ``position`` holds the newest next observation and is no transition.
        times = (rows.randint(1, capacity, size=size) + ring.position) % capacity
    else:
        times = rows.randint(0, capacity if ring.is_full else ring.position, size=size)
    environments = rows.randint(0, high=num_environments, size=(size,))
    stored = _rows(ring.observations, times, environments)
    outcome = _one_step if ring.num_steps == 1 else _many_steps
    found = outcome(ring, normalizer, times, environments)
    return Batch(
        observations=_observed(stored, normalizer),
        actions=_tensor(actions[times, environments]),
        next_observations=_observed(found.next_observations, normalizer),
        ends=_tensor(found.ends),
        rewards=_tensor(found.rewards),
        discounts=None if found.discounts is None else _tensor(found.discounts),
        stored_observations=stored,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Outcome:
    """What follows the drawn rows; ends, rewards and discounts are [rows, 1]."""

    next_observations: Arrays
    ends: Array
    rewards: Array
    """Normalised."""
    discounts: Array | None = None


def _one_step(ring: Ring, normalizer: Normalizer | None, times: Array, environments: Array) -> _Outcome:
    places = times, environments
    dones = _there(ring.dones)
    if ring.is_shared:
        following = _rows(ring.observations, (times + 1) % len(dones), environments)
    else:
        following = _rows(ring.next_observations or {}, times, environments)
    ends = dones[places]
    if ring.timeouts is not None:
        ends = ends * (1 - ring.timeouts[places])
    rewards = _there(ring.rewards)[places].reshape(-1, 1)
    return _Outcome(
        next_observations=following,
        ends=ends.reshape(-1, 1),
        rewards=_normalized_rewards(rewards, normalizer),
    )


def _many_steps(ring: Ring, normalizer: Normalizer | None, times: Array, environments: Array) -> _Outcome:
    """Returns over several steps, cut at the first end. Source: NStepReplayBuffer._get_samples."""
    dones, timeouts, gamma = _there(ring.dones), _there(ring.timeouts), ring.discount
    assert gamma is not None
    steps = np.arange(ring.num_steps).reshape(1, -1)
    places = (times[:, None] + steps) % len(dones), environments[:, None]
    # What the newest row leads to is not known: it counts as a time limit.
    is_newest = places[0] == (ring.position - 1) % len(dones)
    is_cut = np.logical_or(dones[places], timeouts[places]) | is_newest
    last = np.where(is_cut.any(axis=1), is_cut.argmax(axis=1), ring.num_steps - 1)
    mask = steps <= last[:, None]
    rewards = _normalized_rewards(_there(ring.rewards)[places], normalizer)
    powers = gamma ** np.arange(ring.num_steps, dtype=np.float32).reshape(1, -1)
    end = (times + last) % len(dones), environments
    return _Outcome(
        next_observations=_rows(ring.next_observations or {}, *end),
        ends=(dones[end] * (1.0 - timeouts[end])).astype(np.float32)[:, None],
        rewards=(rewards * powers * mask).sum(axis=1, keepdims=True),
        discounts=gamma ** mask.sum(axis=1, keepdims=True).astype(np.float32),
    )


def _there(array: Array | None) -> Array:
    assert array is not None
    return array


def _tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))


def _rows(arrays: Arrays, times: Array, environments: Array) -> Arrays:
    """Copies of the drawn rows only; of a mapped buffer, nothing else stays in memory."""
    drawn = {}
    for key, array in arrays.items():
        drawn[key] = array[times, environments]
        release(array)
    return drawn


def _observed(stored: Arrays, normalizer: Normalizer | None) -> Observations:
    """What the networks see; keys without statistics are left as they are (VecNormalize's norm_obs_keys)."""
    found = {key: _tensor(_normalized(array, key, normalizer)) for key, array in stored.items()}
    return found[""] if set(found) == {""} else found


def _normalized(observations: Array, key: str, normalizer: Normalizer | None) -> Array:
    if normalizer is None or not normalizer.norm_observations or key not in normalizer.mean:
        return observations
    deviation = np.sqrt(normalizer.var[key] + normalizer.epsilon)
    centred = (observations - normalizer.mean[key]) / deviation
    return np.clip(centred, -normalizer.clip, normalizer.clip).astype(np.float32)


def _normalized_rewards(rewards: Array, normalizer: Normalizer | None) -> Array:
    if normalizer is None:
        return rewards
    if normalizer.norm_reward:
        assert normalizer.return_var is not None
        # A float64 of numpy, no Python float: the division is done in double precision.
        deviation = np.sqrt(normalizer.return_var + normalizer.epsilon)
        rewards = np.clip(rewards / deviation, -normalizer.clip_reward, normalizer.clip_reward)
    return rewards.astype(np.float32)
