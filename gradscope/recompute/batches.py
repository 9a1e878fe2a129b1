"""The batches that Stable-Baselines3's buffers draw, from random states of our own.

Source: stable_baselines3/common/buffers.py and vec_env/vec_normalize.py. The order of draws is part
of the result: rows, environments, then the policy's noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradscope.recompute.changes import RowKind
from gradscope.recompute.mapped import release

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradscope.recompute.changes import Change
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
    change: Change | None = None
    """Done to what the network sees; which rows and noise are drawn stays the same."""
    allowed: Array | None = None
    """Numbers of the transitions to draw from; None: all."""

    @property
    def numbers(self) -> Array:
        """Every transition that can be drawn: its place in the ring x environments + environment."""
        ring = self.ring
        capacity, environments = next(iter(ring.observations.values())).shape[:2]
        times = np.arange(capacity if ring.is_full else ring.position)
        times = times[times != ring.position] if ring.is_full and ring.is_shared else times
        numbers: Array = times[:, None] * environments + np.arange(environments)
        return numbers.ravel()

    @property
    def kind(self) -> RowKind:
        """Rows as they were collected, each drawn by itself."""
        return RowKind()

    def stored(self, numbers: Array) -> Arrays:
        """Observations as the buffer holds them, [rows, *shape]."""
        return _rows(self.ring.observations, *np.divmod(numbers, _there(self.ring.actions).shape[1]))

    def seen(self, stored: Arrays) -> Arrays:
        """The same rows as the network sees them, without a change."""
        return {key: _normalized(array, key, self.normalizer) for key, array in stored.items()}


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
    return batch_at(drawing, *_places(drawing, rows))


def batch_at(drawing: Drawing, times: Array, environments: Array) -> Batch:
    """The transitions at these places in the ring and of these environments, [rows] each."""
    ring, normalizer = drawing.ring, drawing.normalizer
    actions = _there(ring.actions)
    drawn = times * actions.shape[1] + environments
    stored = _rows(ring.observations, times, environments)
    outcome = _one_step if ring.num_steps == 1 else _many_steps
    found = outcome(ring, normalizer, times, environments)
    release(actions)
    return Batch(
        observations=_observed(drawing, stored, drawn),
        actions=_tensor(actions[times, environments]),
        next_observations=_observed(drawing, found.next_observations, drawn),
        ends=_tensor(found.ends),
        rewards=_tensor(found.rewards),
        discounts=None if found.discounts is None else _tensor(found.discounts),
        stored_observations=stored,
    )


def _places(drawing: Drawing, rows: np.random.RandomState) -> tuple[Array, Array]:
    """Place in the ring and environment of the rows of the next batch."""
    ring, size = drawing.ring, drawing.batch_size
    capacity, num_environments = _there(ring.actions).shape[:2]
    if drawing.allowed is not None:
        return np.divmod(drawing.allowed[rows.randint(0, len(drawing.allowed), size=size)], num_environments)
    if ring.is_full and ring.is_shared:
        # The row at ``position`` holds the newest next observation and is no transition.
        times = (rows.randint(1, capacity, size=size) + ring.position) % capacity
    else:
        times = rows.randint(0, capacity if ring.is_full else ring.position, size=size)
    return times, rows.randint(0, high=num_environments, size=(size,))


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


def _observed(drawing: Drawing, stored: Arrays, drawn: Array) -> Observations:
    """What the networks see; keys without statistics are left as they are (VecNormalize's norm_obs_keys)."""
    seen = drawing.seen(stored)
    if drawing.change is not None:
        seen = drawing.change(seen, drawn)
    found = {key: _tensor(array) for key, array in seen.items()}
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
