"""One target for every parser: what gets the bytes, and how everything it promises is then read.

Readers come from formats.READERS, so that a new one is fuzzed without being told; parsers below them
(the pickle machine, zip members, ...) are listed by hand.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
from fuzz.folders import is_packed, unpacked
from fuzz.inner import PARSERS, Parser
from fuzz.watched import check

from gradscope.read import readers
from gradscope.read.formats import READERS
from gradscope.read.reader import FolderReader

MAX_ENTRIES: Final = 32
"""Of a mapping that are read; all others are made the same way."""
_MAX_DEPTH: Final = 4


@cache
def targets() -> dict[str, Parser]:
    """What each target does with a file (or a folder of parts), by name."""
    return {**PARSERS, **{each.format: Parser(parse=partial(_read, each)) for each in readers()}}


def starts_a_child(name: str) -> bool:
    """Whether each input costs a process of its own."""
    module = READERS[name][0] if name in READERS else ""
    return bool(module) and hasattr(import_module(f"gradscope.read.{module}"), "native_rows")


def run(name: str, content: bytes, *, counts_memory: bool = False) -> None:
    """Give one input to a target.

    Raises:
        Found: a property does not hold (watched.py).
    """
    parser = targets()[name]
    path = _input(parser.wrap(content))
    check(lambda: used(parser.parse(path)), len(content), path.parent, counts_memory=counts_memory)


def used(record: object, depth: int = 0) -> None:
    """Read everything that a record promises to read when it is asked for."""
    if isinstance(record, np.ndarray):
        np.asarray(record).reshape(-1)[:1].tobytes()
    elif isinstance(record, Mapping) and depth < _MAX_DEPTH:
        for key in list(record)[:MAX_ENTRIES]:
            used(record[key], depth + 1)
    elif isinstance(record, (tuple, list)) and depth < _MAX_DEPTH:
        for each in record[:MAX_ENTRIES]:
            used(each, depth + 1)
    elif dataclasses.is_dataclass(record) and depth < _MAX_DEPTH:
        for field in dataclasses.fields(record):
            used(getattr(record, field.name), depth + 1)


def _read(reader: Any, path: Path) -> object:
    reader.accepts(path)
    if isinstance(reader, FolderReader):
        reader.parts(path)
    return reader.read(path)


def _input(content: bytes) -> Path:
    """The content as a file, or as the folder that it packs."""
    folder = _folder()
    if is_packed(content):
        return unpacked(content, folder)
    path = folder / "input"
    path.write_bytes(content)
    return path


@cache
def _folder() -> Path:
    fast = "/dev/shm"  # noqa: S108  memory, where there is such a thing
    return Path(tempfile.mkdtemp(prefix="fuzz-", dir=fast if os.access(fast, os.W_OK) else None))
