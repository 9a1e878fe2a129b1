"""Rows of experience under whatever names people gave them -> Replay.

One place decides which entries of a file are observations, actions, rewards and ends, for every
format that does not fix the names itself: npz, HDF5, Parquet, CSV, pickled and saved dicts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from gradscope.read.file_bytes import Malformed
from gradscope.read.narrowed import single
from gradscope.read.ring_rows import with_ring
from gradscope.read.step_name import known_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from gradscope.records import Replay

    Array = NDArray[Any]
    Rows: TypeAlias = Mapping[str, Array | Mapping[str, Array]]

OBSERVATIONS: Final = "observations"
NEXT: Final = "next_observations"
ACTIONS: Final = "actions"
REWARDS: Final = "rewards"
DONES: Final = "dones"
TIMEOUTS: Final = "timeouts"
TERMINATIONS: Final = "terminations"
NOT_DONES: Final = "not_dones"
_ORNAMENT: Final = re.compile(r"^_+|_+(bufs?|buffers?|memory|memo|mem)$")
"""What people put around a name: obs_buf, state_memory."""
USUAL: Final[Mapping[str, tuple[str, ...]]] = {
    OBSERVATIONS: ("observations", "observation", "obs", "obses", "obs1", "states", "state", "s"),
    NEXT: (
        *("next_observations", "next_observation", "next_obs", "obs_next", "next_states", "next_state"),
        *("new_obs", "obs2", "observations_next", "s_next", "s2", "s_"),
        *("next_obses", "new_states", "new_state", "new_observations"),
    ),
    ACTIONS: ("actions", "action", "acts", "act", "a"),
    REWARDS: ("rewards", "reward", "rews", "rew", "r"),
    TERMINATIONS: ("terminations", "terminated", "terminals", "terminal"),
    DONES: ("dones", "done", "ends", "end", "d"),
    TIMEOUTS: ("timeouts", "timeout", "truncations", "truncated"),
    NOT_DONES: ("not_dones", "not_done", "not_terminals", "not_terminal", "nonterminals"),
}
"""Usual name -> what others call it, the most telling first; compared without case."""
NO_REPLAY: Final = "has no entries that are called like a replay's (observations, actions, rewards, ...)"
MAX_LISTED: Final = 8
MAX_NAME: Final = 200
"""Characters; a longer one is nobody's usual name, and patterns take long on it."""
NAME_THEM: Final = "Name them: --replay-keys observations=NAME,actions=NAME,..."


def named_rows(entries: Iterable[str], keys: Mapping[str, str]) -> dict[str, str]:
    """Usual name -> the file's own, for the entries that a replay has.

    ``keys`` are the user's, by usual name; they come before guesses, and a guess never takes an entry
    that the user gave to another name. Empty where the entries are no replay's: no observations, or
    nothing beside them.

    Raises:
        Malformed: the user named an entry that is not there.
    """
    known = list(entries)
    by_lower = {bare(name): name for name in reversed(known)} | {name.lower(): name for name in known[::-1]}
    found: dict[str, str] = {}
    for name, own in keys.items():
        if own not in known:
            raise Malformed(f"has no entry {own[:80]!r}", f"It has {listed(known)}.")
        found[name] = own
    for name, others in USUAL.items():
        free = (
            by_lower[each] for each in others if each in by_lower and by_lower[each] not in found.values()
        )
        guess = next(free, None)
        if name not in found and guess is not None:
            found[name] = guess
    return found if OBSERVATIONS in found and (len(found) > 1 or OBSERVATIONS in keys) else {}


def usual_keys(keys: Mapping[str, str]) -> dict[str, str]:
    """The user's names with what others call usual ones in their place: obs=x is observations=x."""
    usual = {other: name for name, others in USUAL.items() for other in others}
    return {usual.get(name.lower(), name): own for name, own in keys.items()}


def bare(name: str) -> str:
    """A name without case and what people put around it: obs_buf is obs, _size is size."""
    return _ORNAMENT.sub("", name.lower()) if len(name) <= MAX_NAME else name


def listed(names: Iterable[str]) -> str:
    """The first few names, for a message."""
    known = list(names)
    shown = ", ".join(repr(each[:40]) for each in known[:MAX_LISTED])
    return shown + (f" and {len(known) - MAX_LISTED} more" if len(known) > MAX_LISTED else "") or "none"


def replay_of(
    path: Path,
    format_name: str,
    rows: Rows,
    *,
    step: Mapping[str, object] | None = None,
    notes: tuple[str, ...] = (),
    overwritten: bool = False,
    capacity: int | None = None,
) -> Replay:
    """A replay of rows by usual name, in order of collection.

    ``rows``: [rows, ...], or [rows, environments, ...] where rewards or ends say so; observations by key too.

    Raises:
        Malformed: observations are missing or no numbers, or entries differ in length.
    """
    from gradscope.records import Replay  # noqa: PLC0415  who only asks for names starts faster

    observations, following, arrays = _checked(rows)
    count = len(next(iter(observations.values())))
    spread, environments = _layout(arrays, observations)
    known = known_step(path, step or {})
    replay = Replay(
        source=path,
        format=format_name,
        step=known.step,
        step_from=known.step_from,
        observations={key: spread(each) for key, each in observations.items()},
        next_observations=following and {key: spread(each) for key, each in following.items()},
        actions=spread(arrays[ACTIONS]) if ACTIONS in arrays else None,
        rewards=_flat(arrays.get(REWARDS), count, environments),
        ends=_ends(arrays, count, environments),
        num_environments=environments,
        num_rows=count * environments,
        num_bytes=_num_bytes(observations, following or {}, arrays),
        capacity=capacity,
        overwritten=overwritten,
        notes=known.notes + notes,
    )
    return with_ring(replay)


def _layout(
    arrays: Mapping[str, Array], observations: Mapping[str, Array]
) -> tuple[Callable[[Array], Array], int]:
    """What gives an array its axis of environments, and how many there are."""
    environments = _environments(arrays, observations)
    return partial(_spread, environments=environments), environments or 1


def _num_bytes(*arrays: Mapping[str, Array]) -> int:
    return sum(each.nbytes for by_name in arrays for each in by_name.values())


def _checked(rows: Rows) -> tuple[dict[str, Array], dict[str, Array] | None, dict[str, Array]]:
    """Observations, next observations and all others, of one number of rows."""
    observations = _by_key(rows.get(OBSERVATIONS))
    if not observations:
        raise Malformed("has no observations", NAME_THEM)
    following = _by_key(rows[NEXT]) if NEXT in rows else None
    plain = {name: each for name, each in rows.items() if not name.endswith(OBSERVATIONS)}
    arrays = {name: _numbers(name, each) for name, each in plain.items() if not isinstance(each, Mapping)}
    named = {**_labelled(OBSERVATIONS, observations), **arrays, **_labelled(NEXT, following or {})}
    if len({len(each) for each in named.values()}) > 1:
        shown = ", ".join(f"{name} {len(each)}" for name, each in list(named.items())[:MAX_LISTED])
        raise Malformed(f"has entries of different numbers of rows: {shown}", NAME_THEM)
    return observations, following, arrays


def _labelled(name: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {f"{name} {key!r}" if key else name: each for key, each in arrays.items()}


def _by_key(value: Array | Mapping[str, Array] | None) -> dict[str, Array]:
    found = {} if value is None else dict(value) if isinstance(value, Mapping) else {"": value}
    return {key: _numbers(f"{OBSERVATIONS} {key!r}", each) for key, each in found.items()}


def _numbers(name: str, array: Array) -> Array:
    if array.ndim == 0 or array.dtype.kind not in "buif":
        shown = f"{array.dtype} of shape {array.shape}"
        raise Malformed(f"has {name[:80]} that are no rows of numbers: {shown[:80]}", NAME_THEM)
    if 0 in array.shape[1:]:
        # As many rows as a file likes, in no bytes at all.
        raise Malformed(f"has {name[:80]} without any number in a row: shape {array.shape}"[:160], NAME_THEM)
    return array


def _environments(arrays: Mapping[str, Array], observations: Mapping[str, Array]) -> int | None:
    """How many there are; None where arrays have no axis of environments, which only others' shapes tell.

    Rewards and ends have no shape of their own: [rows, environments] says how many. One environment has
    an axis of its own where actions have one, as Stable-Baselines3 lays them out: [rows, 1, size].
    """
    for name in (REWARDS, DONES, TERMINATIONS):
        sides = arrays[name].shape[1:] if name in arrays else ()
        if len(sides) == 1 and all(each.shape[1:2] == sides for each in observations.values()):
            actions = arrays.get(ACTIONS)
            has_axis = actions is not None and actions.ndim == 3 and actions.shape[1] == 1  # noqa: PLR2004
            if sides[0] > 1 or (has_axis and all(each.ndim > 2 for each in observations.values())):  # noqa: PLR2004
                return int(sides[0])
    return None


def _spread(array: Array, environments: int | None) -> Array:
    """[rows, environments, *shape], at least one number each."""
    spread = array[:, None] if environments is None else array
    return spread[..., None] if spread.ndim == 2 else spread  # noqa: PLR2004


def _flat(array: Array | None, count: int, environments: int) -> Array | None:
    """[rows, environments]; None where it has another number of elements."""
    return None if array is None or array.size != count * environments else array.reshape(count, environments)


def _ends(arrays: Mapping[str, Array], count: int, environments: int) -> Array | None:
    """Ends that training sees, as float32: terminations, or dones that are no time limits."""
    if (own := _flat(arrays.get(TERMINATIONS), count, environments)) is not None:
        return single(own)
    dones = _flat(arrays.get(DONES), count, environments)
    if dones is None and (going_on := _flat(arrays.get(NOT_DONES), count, environments)) is not None:
        dones = 1 - single(going_on)
    timeouts = _flat(arrays.get(TIMEOUTS), count, environments)
    if dones is None or timeouts is None:
        return None if dones is None else single(dones)
    return single(dones) * (1 - single(timeouts))
