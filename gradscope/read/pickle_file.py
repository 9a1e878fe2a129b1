"""Pickles, told apart by what they hold: replay buffers of libraries, of people's own, or weights."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from gradscope.read import sniff
from gradscope.read.array_weights import InMemory, array_snapshot
from gradscope.read.file_bytes import Foreign, Malformed, head_or_nothing, reading, section_of
from gradscope.read.held_rows import held_replay
from gradscope.read.layers import inert_note
from gradscope.read.numpy_pickle import as_array
from gradscope.read.pickle_stubs import Stub, attributes, is_text_keyed
from gradscope.read.pickled_tensors import ARRAYS_TABLE
from gradscope.read.rows import NAME_THEM, listed
from gradscope.read.safe_pickle import unpickled
from gradscope.read.sb3_buffer import SB3_DETAILS, is_sb3_buffer, sb3_replay
from gradscope.read.tianshou_pickle import is_tianshou_buffer, tianshou_replay
from gradscope.read.transition_rows import Columns, is_sequence, transition_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from gradscope.read.file_bytes import Bytes
    from gradscope.read.safe_pickle import Unpickled
    from gradscope.records import Replay, Snapshot

    Entries = Mapping[str, NDArray[Any] | Mapping[str, NDArray[Any]] | int]

JOBLIB: Final = b"joblib.numpy_pickle"
_JOBLIB_ADVICE: Final = "Save it with pickle.dump, or its arrays with numpy.savez."
_DETAILS: Final = re.compile(
    rf"{SB3_DETAILS.pattern}|tianshou\.data\..*|numpy\.(_core|core|dtype|ndarray|random).*|torch\.\w+Storage"
)
"""Names that honest buffers refer to."""
_MAX_PARTS: Final = 1_000
_MAX_DEPTH: Final = 8
_MAX_NAME: Final = 80


@dataclass(frozen=True, kw_only=True)
class PickleFile:
    """Reader of pickles, whatever wrote them."""

    format: str = sniff.PICKLE
    keys: Mapping[str, str] = field(default_factory=dict)

    def accepts(self, path: Path) -> bool:
        """Whether the first bytes are of this format."""
        return sniff.format_named(head_or_nothing(path), path.name) == self.format

    def read(self, path: Path) -> Replay | Snapshot:
        """Open a pickle; large arrays are views of the file's bytes.

        Raises:
            UnreadableFile: damaged, a replay that contradicts itself, or one whose fields are not certain.
            ForeignFile: a pickle of something else.
        """
        with reading(path):
            file = section_of(path)
            found = _unpickled(file.content())
            if is_sb3_buffer(found.value):
                return sb3_replay(path, found.value, inert_note(found.unknown, _DETAILS))
            if is_tianshou_buffer(found.value):
                return tianshou_replay(path, found.value, inert_note(found.unknown, _DETAILS))
            return self._own(path, found, file.size)

    def _own(self, path: Path, found: Unpickled, file_size: int) -> Replay | Snapshot:
        """A buffer that somebody wrote himself, or weights."""
        value = found.value
        notes = inert_note(found.unknown, _DETAILS)
        entries = _entries(value)
        replay = held_replay(path, self.format, entries, self.keys, notes=notes)
        if replay is not None:
            return replay
        for rows, numbers in _lists(value):
            columns = transition_columns(rows, self.keys, file_size)
            if columns is not None:
                return self._listed(path, columns, numbers, notes)
        weights = array_snapshot(path, self.format, dict(_arrays(value)), notes)
        if weights is None:
            advice = NAME_THEM if any(not isinstance(each, int) for each in entries.values()) else ""
            raise Foreign(f"a pickle of {_described(value)} holds no replay buffer and no weights", advice)
        return weights

    def _listed(
        self, path: Path, columns: Columns, numbers: Mapping[str, int], notes: tuple[str, ...]
    ) -> Replay:
        keys = columns.keys or self.keys
        found = held_replay(
            path, self.format, {**columns.entries, **numbers}, keys, notes=notes + columns.notes
        )
        if found is None:
            raise Foreign(
                f"a pickle of transitions with {listed(columns.entries)}, no replay's names", NAME_THEM
            )
        capacity = columns.capacity
        if capacity is None:
            return found
        return replace(found, capacity=capacity, overwritten=found.num_rows >= capacity)


def _unpickled(content: Bytes) -> Unpickled:
    try:
        return unpickled(content, ARRAYS_TABLE)
    except Malformed as error:
        if content.find(JOBLIB, 0, 1 << 16) >= 0:
            raise Malformed(
                "is a joblib file, whose arrays lie outside of its pickle", _JOBLIB_ADVICE
            ) from error
        raise


def _entries(value: object) -> Entries:
    """A dict's entries or an object's attributes that can be rows or numbers."""
    found: dict[str, Any] = {}
    met: set[int] = set()
    for name, each in _named(value).items():
        array = as_array(each)
        if array is not None:
            found[name] = array
        elif type(each) in {int, bool}:
            found[name] = each
        elif is_text_keyed(each) and each and id(each) not in met:
            met.add(id(each))
            inner = {key: as_array(item) for key, item in each.items()}
            if all(item is not None for item in inner.values()):
                found[name] = inner
    return found


def _named(value: object) -> Mapping[str, object]:
    return value if is_text_keyed(value) else attributes(value)


def _lists(value: object) -> Iterator[tuple[Any, Mapping[str, int]]]:
    """Lists that may hold transitions, each with the numbers beside it: the value, or one of its entries."""
    if is_sequence(value):
        yield value, {}
        return
    entries = _named(value)
    met: set[int] = set()
    numbers = {name: each for name, each in entries.items() if isinstance(each, int)}
    numbers["full"] = True  # A list holds no row that was never written.
    for each in list(entries.values())[:_MAX_PARTS]:
        # One object further in: an agent with its memory, a memory with its deque.
        inside = list(attributes(each).values())[:_MAX_PARTS] if isinstance(each, Stub) else ()
        for rows, beside in ((each, numbers), *((inner, {}) for inner in inside)):
            if is_sequence(rows) and id(rows) not in met:
                met.add(id(rows))
                yield rows, beside


def _arrays(value: object) -> Iterator[tuple[str, InMemory]]:
    """Arrays by dotted name, of nested dicts; shared ones where they are met first."""
    waiting: list[tuple[str, object, int]] = [("", value, 0)]
    seen: set[int] = set()
    while waiting and len(seen) < _MAX_PARTS * 100:
        prefix, each, depth = waiting.pop()
        if depth > _MAX_DEPTH or id(each) in seen or not is_text_keyed(each):
            continue
        seen.add(id(each))
        for name, item in each.items():
            array = as_array(item)
            if array is not None and array.dtype.kind in "buifc":
                yield f"{prefix}{name}", InMemory(values=array)
        # A name of a million letters would be repeated before everything that lies below.
        inner = ((name[:_MAX_NAME], item) for name, item in reversed(each.items()) if isinstance(item, dict))
        waiting.extend((f"{prefix}{name}.", item, depth + 1) for name, item in inner)


def _described(value: object) -> str:
    if isinstance(value, Stub):
        return str(value)
    array = as_array(value)
    if array is not None:
        return f"an array of shape {array.shape}"
    if is_text_keyed(value) and value:
        return f"a dict of {listed(value)}"
    return f"a {type(value).__name__}"
