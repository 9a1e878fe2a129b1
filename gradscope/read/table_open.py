"""In the child: opening Parquet, Arrow and CSV with pyarrow, without threads and without maps."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from gradscope.read import sniff_table
from gradscope.read.file_bytes import Malformed
from gradscope.read.native_output import BLOCK_BYTES
from gradscope.read.rows import ACTIONS
from gradscope.read.table_columns import chosen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

BATCH_ROWS: Final = 4096
MAX_THRIFT: Final = 64 << 20
"""Bytes of Parquet's footer, and its entries."""
MAX_LINE: Final = 4 << 20
MAX_DEPTH: Final = 16
CUT: Final = "the last line has no end and was left out: it may be still being written"


@dataclass(kw_only=True)
class Table:
    """A table whose rows are read when they are asked for."""

    columns: Mapping[str, str]
    """Leaf, dotted below structs -> the column that it is in."""
    batches: Callable[[Sequence[str]], Iterator[Any]]
    """Record batches of these columns."""
    num_rows: int | None = None
    notes: list[str] = field(default_factory=list)


def parquet(path: str, _: Mapping[str, Any]) -> Table:
    """Parquet: its footer says how many rows there are."""
    import pyarrow.parquet as pq  # noqa: PLC0415  each kind imports its own

    file = pq.ParquetFile(
        path, memory_map=False, thrift_string_size_limit=MAX_THRIFT, thrift_container_size_limit=MAX_THRIFT
    )

    def batches(names: Sequence[str]) -> Iterator[Any]:
        return iter(file.iter_batches(BATCH_ROWS, columns=list(names), use_threads=False))

    return Table(columns=leaves(file.schema_arrow), batches=batches, num_rows=file.metadata.num_rows)


def arrow(path: str, _: Mapping[str, Any]) -> Table:
    """Arrow's file format (Feather 2), or its stream."""
    from pyarrow import ipc  # noqa: PLC0415

    source = pa.OSFile(path)
    is_file = source.read(6) == b"ARROW1"
    source.seek(0)
    opened = ipc.open_file(source) if is_file else ipc.open_stream(source)

    def batches(names: Sequence[str]) -> Iterator[Any]:
        places = [place for place, name in enumerate(opened.schema.names) if name in set(names)]
        options = ipc.IpcReadOptions(included_fields=places, use_threads=False)
        source.seek(0)
        again = (
            ipc.open_file(source, options=options) if is_file else ipc.open_stream(source, options=options)
        )
        if not is_file:
            yield from again
            return
        for place in range(again.num_record_batches):
            yield again.get_batch(place)

    return Table(columns=leaves(opened.schema), batches=batches)


def comma_separated(path: str, request: Mapping[str, Any]) -> Table:
    """Text: numbers become float64, but an action's that are all whole; true and false become bool."""
    with open(path, "rb") as file:  # noqa: PTH123  a name may hold anything
        line = sniff_table.decoded(file.readline(MAX_LINE)).rstrip("\n")
    names, mark = sniff_table.header(line), sniff_table.delimiter(line)
    named = [name for name in names if name]
    if len(named) != len(set(named)):
        raise Malformed("has several columns of one name", "Rename them.")
    end = _end(path)
    actions = chosen(named, request["keys"]).get(ACTIONS, {}).get("", [])

    def batches(wanted: Sequence[str]) -> Iterator[Any]:
        first = next(iter(_csv(path, end, names, mark, dict.fromkeys(wanted))), None)
        kinds = {each.name: each.type for each in first.schema} if first is not None else {}
        are_whole = all(pa.types.is_integer(kinds.get(each)) for each in actions) if kinds else False
        typed = {
            name: kind if pa.types.is_boolean(kind) or (are_whole and name in actions) else pa.float64()
            for name, kind in kinds.items()
        }
        return iter(_csv(path, end, names, mark, typed)) if typed else iter(())

    notes = [CUT] if end < os.stat(path).st_size else []  # noqa: PTH116
    return Table(columns={name: name for name in named}, batches=batches, notes=notes)


OPENED: Final[Mapping[str, Callable[[str, Mapping[str, Any]], Table]]] = {
    "parquet": parquet,
    "arrow": arrow,
    "csv": comma_separated,
}


def leaves(schema: Any) -> dict[str, str]:
    """Leaf columns by dotted name, with the column that each lies in."""
    found: dict[str, str] = {}
    left = [(each.name, each.type, each.name, 0) for each in reversed(list(schema))]
    while left:
        name, kind, top, depth = left.pop()
        if pa.types.is_struct(kind) and depth < MAX_DEPTH:
            inner = (kind.field(place) for place in reversed(range(kind.num_fields)))
            left += [(f"{name}.{each.name}", each.type, top, depth + 1) for each in inner]
        else:
            found[name] = top
    return found


def _csv(path: str, end: int, names: list[str], mark: str, kinds: Mapping[str, Any]) -> Any:
    from pyarrow import csv  # noqa: PLC0415

    typed = {name: kind for name, kind in kinds.items() if kind is not None}
    return csv.open_csv(
        io.BufferedReader(_Until(path, end)),
        read_options=csv.ReadOptions(
            block_size=BLOCK_BYTES // 4, use_threads=False, column_names=names, skip_rows=1
        ),
        parse_options=csv.ParseOptions(delimiter=mark),
        convert_options=csv.ConvertOptions(
            include_columns=list(kinds), column_types=typed, null_values=[], strings_can_be_null=False
        ),
    )


class _Until(io.RawIOBase):
    """A file up to the end of its last whole line."""

    def __init__(self, path: str, end: int) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: PTH123, SIM115  closed below
        self._left = end

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """At most what is left."""
        content = self._file.read(min(len(buffer), self._left))
        buffer[: len(content)] = content
        self._left -= len(content)
        return len(content)

    def close(self) -> None:
        """The file too."""
        self._file.close()
        super().close()


def _end(path: str) -> int:
    """Where the last whole line ends."""
    size = os.stat(path).st_size  # noqa: PTH116
    with open(path, "rb") as file:  # noqa: PTH123
        start = max(size - MAX_LINE, 0)
        file.seek(start)
        found = file.read(MAX_LINE).rfind(b"\n")
    if found < 0:
        raise Malformed(f"has a line of more than {MAX_LINE >> 20} MiB")
    return start + found + 1
