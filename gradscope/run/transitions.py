"""Rows under the names that a user's loss function takes: a replay buffer's, and observations by key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.records import Replay, Ring
    from gradscope.run.inputs import Array


OBSERVATIONS: Final = "observations"


def rows_of(replay: Replay) -> dict[str, Array]:
    """A replay's rows under the same names; of a ring without the rows that are no transitions.

    Doubles, which tables hold, are given in single precision, as networks take them.
    """
    if replay.ring is not None:
        return {name: _single(each) for name, each in transitions(replay.ring).items()}
    found = {_name(OBSERVATIONS, key): each for key, each in replay.observations.items()}
    found |= {_name("next_observations", key): each for key, each in (replay.next_observations or {}).items()}
    plain = {"actions": replay.actions, "rewards": replay.rewards, "ends": replay.ends}
    found |= {name: each for name, each in plain.items() if each is not None}
    return {name: _single(each.reshape(-1, *each.shape[2:])) for name, each in found.items()}


def _single(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype == np.float64 else array


def transitions(ring: Ring) -> dict[str, Array]:
    """observations, next_observations, actions, rewards, ends: [rows, ...], environments side by side.

    A Dict observation's entries are ``observations.KEY``. Rows that were never written are left out, and
    of a memory-optimised buffer the one row that is no transition; ends are dones without time limits.
    """
    capacity = len(next(iter(ring.observations.values())))
    times = np.arange(capacity if ring.is_full else ring.position)
    following = ring.next_observations
    if ring.is_shared:
        times = times[times != ring.position] if ring.is_full else times
        following = {key: np.roll(each, -1, axis=0) for key, each in ring.observations.items()}
    found = {_name(OBSERVATIONS, key): each for key, each in ring.observations.items()}
    found |= {_name("next_observations", key): each for key, each in (following or {}).items()}
    ends = ring.dones
    if ends is not None and ring.timeouts is not None:
        ends = ends * (1 - ring.timeouts)
    plain = {"actions": ring.actions, "rewards": ring.rewards, "ends": ends}
    found |= {name: each for name, each in plain.items() if each is not None}
    chosen = slice(0, len(times)) if len(times) in {capacity, ring.position} else times
    return {name: each[chosen].reshape(-1, *each.shape[2:]) for name, each in found.items()}


def _name(name: str, key: str) -> str:
    return f"{name}.{key}" if key else name


def entries(rows: Mapping[str, Array], name: str) -> dict[str, Array]:
    """By key of the observation, "" for a plain one; empty where nothing is called so."""
    if name in rows:
        return {"": rows[name]}
    start = f"{name}."
    return {key.removeprefix(start): each for key, each in rows.items() if key.startswith(start)}
