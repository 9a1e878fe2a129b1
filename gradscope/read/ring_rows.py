"""Complete rows of any origin as a ring that Stable-Baselines3's batches can be drawn from."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.read.narrowed import single
from gradscope.read.sniff import CSV
from gradscope.read.stored_tensor import OnDemand
from gradscope.records import Ring

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradscope.records import Replay

    Array = NDArray[Any]

PLAIN: Final = "stable_baselines3.common.buffers.ReplayBuffer"
DICT: Final = "stable_baselines3.common.buffers.DictReplayBuffer"
LACKS: Final = "the replay has no {}: batches of transitions need observations, next_observations, {}"
NEEDED: Final = "actions, rewards and ends"
WIDE: Final = (
    "the replay's actions reach {:.4g}: Stable-Baselines3's networks take them scaled to -1..1, "
    "so export the buffer's own, not the environment's"
)
UNEVEN: Final = "the replay's actions are {} of shape {}: a batch needs numbers or a vector of them"
MOST_CHECKED: Final = 100_000
"""Numbers of a text that tell in which precision it was written; each takes about a microsecond."""
_SCALED: Final = 1 + 1e-5
"""Largest size of a scaled action, rounding left out."""


def with_ring(replay: Replay) -> Replay:
    """The replay with its ring, in which rows lie in order; or with the reason why it has none.

    Shapes and dtypes are those that SB3's buffers have: rewards and dones float32, actions float32 or
    int64 [rows, environments, size]. Ends stand for dones, and there are no time limits beside them.
    """
    reason = _reason(replay)
    if reason is not None:
        return replace(replay, ring_reason=reason)
    assert replay.actions is not None
    ring = Ring(
        buffer_class=PLAIN if set(replay.observations) == {""} else DICT,
        position=len(replay.actions),
        is_full=False,
        is_shared=False,
        observations=_native(replay.observations, is_text=replay.format == CSV),
        next_observations=_native(replay.next_observations or {}, is_text=replay.format == CSV),
        actions=_whole_or_single(replay.actions),
        rewards=_single(replay.rewards),
        dones=_single(replay.ends),
        timeouts=None,
    )
    return replace(replay, ring=ring)


def turned(replay: Replay, first: int) -> Replay:
    """A replay whose rows lie in a full ring, the oldest at ``first``: put in order when they are asked for.

    The ring stays as it lies: the library draws by place.
    """
    ring = replay.ring
    following = replay.next_observations
    return replace(
        replay,
        observations=_in_order(replay.observations, first),
        next_observations=None if following is None else _in_order(following, first),
        actions=None if replay.actions is None else _rolled(replay.actions, first),
        rewards=None if replay.rewards is None else _rolled(replay.rewards, first),
        ends=None if replay.ends is None else _rolled(replay.ends, first),
        ring=None if ring is None else replace(ring, position=first, is_full=True),
    )


def _in_order(arrays: Mapping[str, Array], first: int) -> Mapping[str, Array]:
    return OnDemand({key: partial(_rolled, each, first) for key, each in arrays.items()})


def _rolled(array: Array, first: int) -> Array:
    return np.concatenate([array[first:], array[:first]])


def _reason(replay: Replay) -> str | None:
    parts = {
        "next_observations": replay.next_observations,
        "actions": replay.actions,
        "rewards": replay.rewards,
        "ends": replay.ends,
    }
    missing = [name for name, each in parts.items() if each is None]
    if missing:
        return LACKS.format(", no ".join(missing), NEEDED)
    actions = replay.actions
    assert actions is not None
    if actions.ndim != 3 or actions.dtype.kind not in "buif":  # noqa: PLR2004 - rows, environments, size
        return UNEVEN.format(actions.dtype, actions.shape)
    if actions.dtype.kind == "f" and actions.size:
        largest = max(abs(float(actions.min())), abs(float(actions.max())))
        if largest > _SCALED:
            return WIDE.format(largest)
    return None


def _native(arrays: Mapping[str, Array], *, is_text: bool) -> Mapping[str, Array]:
    """Observations in single precision where nothing is lost: lists and tables hold doubles."""
    return {
        key: _narrowed(each, is_text=is_text) if each.dtype == np.float64 else each
        for key, each in arrays.items()
    }


def _narrowed(array: Array, *, is_text: bool) -> Array:
    narrow = single(array)
    if np.array_equal(narrow, array, equal_nan=True) or (is_text and _is_text_of(narrow, array)):
        return narrow
    return array


def _is_text_of(narrow: Array, array: Array) -> bool:
    """Whether the doubles are what the shortest text of the single numbers reads as."""
    some, same = narrow.ravel()[:MOST_CHECKED], array.ravel()[:MOST_CHECKED]
    return np.array_equal(some.astype("U32").astype(np.float64), same, equal_nan=True)


def _single(array: Array | None) -> Array:
    assert array is not None
    return single(array)


def _whole_or_single(array: Array) -> Array:
    return array.astype(np.int64, copy=False) if array.dtype.kind in "bui" else _single(array)
