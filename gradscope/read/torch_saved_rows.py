"""Replays that torch.save wrote: dicts of tensors under a replay's names, or lists of transitions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gradscope.read.array_weights import Held, InMemory, is_parameter_name
from gradscope.read.columns import Room
from gradscope.read.file_bytes import Malformed
from gradscope.read.held_rows import held_replay, replay_names
from gradscope.read.numpy_pickle import Rebuilt, as_array
from gradscope.read.pickle_stubs import Entries, Stub, attributes, is_text_keyed
from gradscope.read.rows import DONES, REWARDS, TERMINATIONS, TIMEOUTS, USUAL, named_rows
from gradscope.read.stored_tensor import StoredTensor
from gradscope.read.transition_rows import MAX_FIELDS, is_sequence, transition_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gradscope.records import Replay


_OUTCOMES: Final = {each for name in (REWARDS, DONES, TERMINATIONS, TIMEOUTS) for each in USUAL[name]}


def saved_replay(path: Path, format_name: str, value: object, keys: Mapping[str, str]) -> Replay | None:
    """A replay where what was saved is one, by its names or its rows; None for a checkpoint.

    Raises:
        Malformed: a replay that contradicts itself, or tuples of which it is not certain what is what.
    """
    if is_sequence(value):
        return _listed(path, format_name, value, keys)
    named = _without_next(_distinct(value if is_text_keyed(value) else attributes(value)))
    entries = {name: _entry(each) for name, each in named.items()}
    entries = {name: each for name, each in entries.items() if each is not None}
    if any(map(_is_model, named.items())) or not replay_names(entries, keys):
        return None
    num_axes = value.num_batch_dims if isinstance(value, Entries) else None
    if num_axes not in {None, 1}:
        raise Malformed(
            f"is a TensorDict with {num_axes} axes of rows", "Save td.transpose(0, 1).reshape(-1)."
        )
    return held_replay(path, format_name, entries, keys)


def _without_next(named: Mapping[str, object]) -> Mapping[str, object]:
    """Rows of torchrl as others name them: what an action led to, rewards too, lies below ``next``."""
    following = named.get("next")
    if not is_text_keyed(following):
        return named
    # An outcome beside the action is that of the row before.
    own = {key: each for key, each in named.items() if key != "next" and key not in _OUTCOMES}
    return own | {key if key in _OUTCOMES else f"next_{key}": each for key, each in following.items()}


def _is_model(entry: tuple[str, object]) -> bool:
    """A parameter, a state dict, or a whole module."""
    name, value = entry
    inner = value if is_text_keyed(value) else attributes(value)
    return is_parameter_name(name) or "_parameters" in inner or any(map(is_parameter_name, inner))


def _distinct(named: Mapping[str, object]) -> dict[str, object]:
    """Entries without dicts that were met before: a file may refer to one a million times."""
    met: set[int] = set()
    found: dict[str, object] = {}
    for name, each in named.items():
        inner = each if isinstance(each, dict) else attributes(each)
        if not inner or id(inner) not in met:
            found[name] = each
        met.add(id(inner) if inner else 0)
    return found


def _entry(value: object) -> Held | Mapping[str, Held] | int | None:
    """A tensor or an array, a dict of them, or a number."""
    if isinstance(value, int):
        return value
    if (found := _held(value)) is not None:
        return found
    inner = {key: _held(each) for key, each in value.items()} if is_text_keyed(value) else {}
    kept = {key: each for key, each in inner.items() if each is not None}
    return kept if kept and len(kept) == len(inner) else None


def _held(value: object) -> Held | None:
    if isinstance(value, StoredTensor):
        assert isinstance(value, Held)
        return value
    array = as_array(value)
    return None if array is None else InMemory(values=array)


def _listed(path: Path, format_name: str, items: Sequence[object], keys: Mapping[str, str]) -> Replay | None:
    first = items[0]
    is_tuple = isinstance(first, (tuple, list)) or (isinstance(first, Stub) and not attributes(first))
    names = first if is_text_keyed(first) else attributes(first)
    if not is_tuple and not named_rows(names, keys if set(keys.values()) & set(names) else {}):
        return None
    file_size = path.stat().st_size
    read = _Read(room=Room(file_size=file_size))
    rows = [read.row(each) for each in items]
    columns = transition_columns(rows, keys, file_size)
    if columns is None:
        return None
    return held_replay(path, format_name, columns.entries, columns.keys or keys, notes=columns.notes)


@dataclass(kw_only=True, eq=False)
class _Read:
    """Rows with arrays in the place of tensors; what rows share is read once."""

    room: Room
    rows: dict[int, object] = field(default_factory=dict)
    arrays: dict[int, object] = field(default_factory=dict)

    def row(self, item: object) -> object:
        """One transition."""
        given = (attributes(item) or item.arguments) if isinstance(item, Stub) else item
        if id(given) not in self.rows:
            self.rows[id(given)] = self._row(given)
        return self.rows[id(given)]

    def _row(self, given: object) -> object:
        if isinstance(given, (tuple, list)):
            return tuple(map(self._array, given)) if len(given) <= MAX_FIELDS else None
        if not is_text_keyed(given) or len(given) > MAX_FIELDS:
            return None
        return {key: self._array(each) for key, each in given.items()}

    def _array(self, value: object) -> object:
        if not isinstance(value, StoredTensor):
            return value
        if id(value) not in self.arrays:
            self.room.take(value.num_bytes)
            self.arrays[id(value)] = Rebuilt(value.array())
        return self.arrays[id(value)]
