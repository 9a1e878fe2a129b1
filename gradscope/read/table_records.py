"""In the child: batches of columns as records of one layout: rows need not be counted before."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gradscope.read.file_bytes import Malformed
from gradscope.read.native_output import BLOCK_BYTES, Output, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Name = tuple[str, str]

MAX_ROW: Final = 64 << 20
"""Bytes of one row."""
MAX_DEPTH: Final = 8
RIGHT: Final = "Leave it out, or name others with --replay-keys."
FULL: Final = "Fill its cells, or leave it out."


class Records:
    """Rows written one after the other; every array of the replay is a column of them."""

    def __init__(
        self,
        columns: Mapping[str, Mapping[str, list[str]]],
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self.columns = columns
        self.count = 0
        self._shapes = shapes or {}
        """Dotted name of a column -> shape of its rows, where the table only knows flat ones."""
        self._layout: np.dtype[Any] | None = None
        self._start = 0

    def write(self, batch: Any, output: Output, num_rows: int | None = None) -> None:
        """Rows of a record batch.

        Raises:
            Malformed: no numbers, empty cells, or not like the rows before.
        """
        if batch.num_rows:
            self.append(dict(self.arrays(batch)), output, num_rows)

    def arrays(self, batch: Any) -> Iterator[tuple[Name, Array]]:
        """Arrays by usual name and key, [rows of the batch, ...].

        Raises:
            Malformed: no numbers, empty cells, or lists of different lengths.
        """
        batch.validate(full=True)
        for name, by_key in self.columns.items():
            for key, group in by_key.items():
                found = [self._column(each, batch) for each in group]
                yield (name, key), found[0] if len(found) == 1 else _side_by_side(found, group)

    def append(self, arrays: Mapping[Name, Array], output: Output, num_rows: int | None = None) -> None:
        """Rows of one length; ``num_rows`` in all where that is known.

        Raises:
            Malformed: not like the rows before, or more than the file justifies.
        """
        layout = np.dtype(
            [(f"{name}\n{key}", each.dtype, each.shape[1:]) for (name, key), each in arrays.items()],
            align=True,
        )
        if self._layout is None:
            if layout.itemsize > MAX_ROW:
                raise Malformed(f"has rows of {layout.itemsize >> 20} MiB")
            output.check((num_rows or 0) * layout.itemsize)
            self._layout, self._start = layout, output.reserve(0)
        elif self._layout != layout:
            raise Malformed("has rows whose lists have different lengths", RIGHT)
        count = len(next(iter(arrays.values())))
        output.check(count * layout.itemsize)
        step = max(BLOCK_BYTES // layout.itemsize, 1)
        for start in range(0, count, step):
            records = np.zeros(min(step, count - start), layout)
            for (name, key), each in arrays.items():
                records[f"{name}\n{key}"] = each[start : start + step]
            output.extend(records)
        self.count += count

    def entries(self, output: Output) -> None:
        """Say where each array lies.

        Raises:
            Malformed: there are no rows.
        """
        if self._layout is None or self._layout.fields is None:
            raise Malformed("holds no rows")
        for field, (kind, offset, *_) in self._layout.fields.items():
            name, _, key = field.partition("\n")
            shape = (self.count, *kind.shape)
            output.entry((name, key), kind.base, shape, self._start + offset, self._layout.itemsize)

    def _column(self, name: str, batch: Any) -> Array:
        found = _numbers(name, _leaf(name, batch))
        row = self._shapes.get(name)
        fits = row is not None and math.prod(row) == math.prod(found.shape[1:])
        return found.reshape(len(found), *row) if row is not None and fits else found


def top_names(columns: Mapping[str, str], wanted: Iterable[str]) -> list[str]:
    """The columns that hold these leaves, each once."""
    return list(dict.fromkeys(columns[each] for each in wanted))


def _leaf(name: str, batch: Any) -> Any:
    """A column, or a field within structs; the whole name is tried first: names may have dots."""
    names = batch.schema.names
    head, rest = name, ""
    while head not in names:
        head, _, last = head.rpartition(".")
        rest = f"{last}.{rest}" if rest else last
        assert head
    array = batch.column(head)
    while rest:
        known = [array.type.field(place).name for place in range(array.type.num_fields)]
        field = next(each for each in known if rest == each or rest.startswith(f"{each}."))
        _refuse_empty(name, array)
        array, rest = array.field(field), rest[len(field) + 1 :]
    return array


def _numbers(name: str, array: Any, depth: int = 0) -> Array:
    """[rows, ...] of a column of numbers, or of lists of them that all have one length."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    _refuse_empty(name, array)
    kind = array.type
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = [kind.list_size] if pa.types.is_fixed_size_list(kind) else _lengths(array)
        if len(lengths) != 1 or depth == MAX_DEPTH:
            raise Malformed(f"has lists of different lengths in column {name[:80]!r}", RIGHT)
        inner = _numbers(name, array.flatten(), depth + 1)
        return inner.reshape(len(array), lengths[0], *inner.shape[1:])
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise Malformed(f"has a column {name[:80]!r} that holds no numbers ({str(kind)[:40]})", RIGHT)
    found: Array = np.asarray(array.to_numpy(zero_copy_only=False))
    dtype = plain(found.dtype)
    if dtype is None:
        raise Malformed(f"has a column {name[:80]!r} that holds no numbers ({found.dtype})", RIGHT)
    return found.astype(dtype, copy=False)


def _lengths(array: Any) -> list[int]:
    found = pc.min_max(pc.list_value_length(array)).as_py()
    return sorted({int(found["min"] or 0), int(found["max"] or 0)})


def _refuse_empty(name: str, array: Any) -> None:
    if array.null_count:
        raise Malformed(f"has {array.null_count} empty cells in column {name[:80]!r}", FULL)


def _side_by_side(found: list[Array], group: list[str]) -> Array:
    if any(each.ndim != 1 for each in found):
        raise Malformed(f"has columns like {group[0][:80]!r} that are lists, not numbers", RIGHT)
    return np.stack(found, axis=1)
