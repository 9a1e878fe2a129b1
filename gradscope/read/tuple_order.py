"""What the places of a transition's tuple mean, told by shapes and values; refused where they do not tell.

Usual orders, all with the observation first and action, reward, end in this order:
(s, a, r, s', d), (s, s', a, r, d), (s, a, s', r, d), (s, a, r, d, s'), (s, a, s', r), each also with
terminated and truncated in the place of d. So only the place of s' has to be found. Some write a mask
there, 1 where the episode goes on: where s' is the next row's s it goes on, and tells which it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.read.file_bytes import Malformed
from gradscope.read.rows import ACTIONS, DONES, NEXT, NOT_DONES, OBSERVATIONS, REWARDS, TERMINATIONS, TIMEOUTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Column = Array | dict[str, Array]

FOLLOWS: Final = 0.5
"""Share of rows whose next observation must be the next row's observation; ends break the chain."""
_WORDS: Final = {
    OBSERVATIONS: "observation",
    ACTIONS: "action",
    REWARDS: "reward",
    NEXT: "next observation",
    DONES: "end",
    NOT_DONES: "1 where the episode goes on",
    TERMINATIONS: "terminated",
    TIMEOUTS: "truncated",
}
_USUAL: Final = {
    3: (OBSERVATIONS, ACTIONS, REWARDS),
    4: (OBSERVATIONS, ACTIONS, REWARDS, DONES),
    5: (OBSERVATIONS, ACTIONS, REWARDS, NEXT, DONES),
}
"""By number of places, for an example of how to say it."""
_MOST: Final = 0.5
"""Share of rows that can be ends where nothing but their number tells ends from a mask."""
_LEAST: Final = 3
"""Places: observation, action, reward."""
_LOOKED_AT: Final = 10_000
"""Rows that are compared."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """Which place holds what."""

    keys: Mapping[str, str]
    """Usual name -> place."""
    note: str


def tuple_order(columns: Mapping[str, Column], num_places: int) -> Order | None:
    """The order of a transition's places; None where they are no transitions. ``columns``: those of numbers.

    Single numbers are taken for observations only where one place holds what the next row begins with.

    Raises:
        Malformed: shapes and values allow several orders, or none of the usual ones.
    """
    if len(columns) < _LEAST or "0" not in columns:
        return None
    if _is_number(columns["0"]) and (len(columns) == _LEAST or not _chained(columns)):
        return None
    following = _following(columns, num_places)
    rest = [each for each in columns if each not in {"0", following}]
    keys = {OBSERVATIONS: "0"} | _outcome(columns, rest, num_places)
    if following is not None:
        keys[NEXT] = following
    keys = _with_mask(columns, keys, num_places)
    if following is None and not keys.keys() & {DONES, NOT_DONES, TERMINATIONS}:
        # (something, number, number) can be anything.
        return None
    names = {place: _WORDS[name] for name, place in keys.items()}
    shown = ", ".join(names.get(str(place), "...") for place in range(num_places))
    return Order(keys=keys, note=f"transitions are read as ({shown}), by their shapes and values")


def _chained(columns: Mapping[str, Column]) -> list[str]:
    """Places that hold what the next row begins with."""
    first = columns["0"]
    alike = [place for place, each in columns.items() if place != "0" and _kind(each) == _kind(first)]
    return [place for place in alike if _share(columns[place], first) >= FOLLOWS]


def _following(columns: Mapping[str, Column], num_places: int) -> str | None:
    """The place of the next observation, None where there is none."""
    first = columns["0"]
    alike = [place for place, each in columns.items() if place != "0" and _kind(each) == _kind(first)]
    if not alike:
        return None
    if len(alike) == 1 and alike != ["1"]:
        return alike[0]
    sure = _chained(columns)
    if len(sure) == 1:
        return sure[0]
    what = f"places {', '.join(['0', *alike])} look alike"
    raise _unknown(num_places, what)


def _outcome(columns: Mapping[str, Column], rest: list[str], num_places: int) -> dict[str, str]:
    """Action, reward and ends among the places that hold no observations."""
    arrays = {place: each for place in rest if isinstance(each := columns[place], np.ndarray)}
    places = list(arrays)
    if len(places) < 2:  # noqa: PLR2004 - action and reward
        raise _unknown(num_places, "an action and a reward are missing")
    keys = {ACTIONS: places[0], REWARDS: places[1]}
    reward = arrays[places[1]]
    if not _is_single(reward) or reward.dtype.kind == "b":
        raise _unknown(num_places, f"place {places[1]} is no reward")
    ends = places[2:]
    if ends and not _is_flag(arrays[ends[0]]):
        raise _unknown(num_places, f"place {ends[0]} is no end of an episode")
    if len(ends) > 1 and _is_flag(arrays[ends[1]]):
        return keys | {TERMINATIONS: ends[0], TIMEOUTS: ends[1]}
    return keys | ({DONES: ends[0]} if ends else {})


def _with_mask(columns: Mapping[str, Column], keys: dict[str, str], num_places: int) -> dict[str, str]:
    """The same keys; ends that are 1 where the episode goes on become a mask.

    A second flag beside a mask is the end itself (jaxrl), or tells nothing that is known here (bad_mask).
    """
    name = next((each for each in (DONES, TERMINATIONS) if each in keys), None)
    if name is None or not _is_mask(columns, keys[name], columns.get(keys.get(NEXT, "")), num_places):
        return keys
    second = keys.get(TIMEOUTS)
    if second is not None and not np.array_equal(_flags(columns, second), 1 - _flags(columns, keys[name])):
        what = f"place {keys[name]} is 1 where the episode goes on, and place {second} is another flag"
        raise _unknown(num_places, what)
    kept = {each: place for each, place in keys.items() if each not in {name, TIMEOUTS}}
    return kept | {NOT_DONES: keys[name]}


def _is_mask(columns: Mapping[str, Column], place: str, following: Column | None, num_places: int) -> bool:
    flags = _flags(columns, place)
    going_on = _going_on(following, columns["0"])
    shown = flags[: len(going_on)][going_on]
    # Where every flag is 1, each row is an end, or none is.
    if not flags.all() and len(shown):
        return float(shown.mean()) > _MOST
    if flags.mean() > _MOST:
        raise _unknown(num_places, f"place {place} is 1 in most rows: ends (dones), or not_dones")
    return False


def _flags(columns: Mapping[str, Column], place: str) -> NDArray[Any]:
    return np.asarray(columns[place]).reshape(-1).astype(int)


def _going_on(following: Column | None, first: Column) -> NDArray[np.bool_]:
    """Rows whose episode goes on in the next row: [rows - 1], or none where that cannot be told."""
    if not isinstance(following, np.ndarray) or not isinstance(first, np.ndarray):
        return np.zeros(0, bool)
    here, ahead = following[:-1][:_LOOKED_AT], first[1:][:_LOOKED_AT]
    moves = (ahead != first[:-1][:_LOOKED_AT]).reshape(len(here), -1).any(axis=1)
    found: NDArray[np.bool_] = (here == ahead).reshape(len(here), -1).all(axis=1) & moves
    return found


def _kind(column: Column) -> object:
    if isinstance(column, np.ndarray):
        return column.shape[1:], column.dtype
    return {key: (each.shape[1:], each.dtype) for key, each in column.items()}


def _share(column: Column, first: Column) -> float:
    """How often a place holds what the next row begins with."""
    if not isinstance(column, np.ndarray) or not isinstance(first, np.ndarray) or len(first) < 2:  # noqa: PLR2004
        return 0.0
    here, ahead = column[:-1][:_LOOKED_AT], first[1:][:_LOOKED_AT]
    same = (here == ahead).reshape(len(here), -1).all(axis=1)
    moves = (ahead != first[:-1][:_LOOKED_AT]).reshape(len(here), -1).any(axis=1)
    # Rows in which nothing moves would take any constant for what follows.
    return float(same[moves].mean()) if moves.any() else 0.0


def _is_number(column: Column) -> bool:
    return isinstance(column, np.ndarray) and _is_single(column)


def _is_single(array: Array) -> bool:
    return array.size == len(array)


def _is_flag(array: Array) -> bool:
    return _is_single(array) and bool(((array == 0) | (array == 1)).all())


def _unknown(num_places: int, why: str) -> Malformed:
    example = ",".join(f"{name}={place}" for place, name in enumerate(_USUAL[min(max(num_places, 3), 5)]))
    problem = f"holds tuples of {num_places}, of which it is not certain what is what: {why}"
    return Malformed(problem, f"Say it, like --replay-keys {example}.")
