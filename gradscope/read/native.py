"""Files that native libraries parse (libhdf5, Arrow), read in a child process with limits.

Those libraries are C and C++: a hostile file can crash them, keep them busy for ever, or make them ask
for all memory. So they are never called here. A child (native_child.py) limits its own memory, time and
output before it imports anything, reads the rows that are wanted and writes them to a temporary file
that has no name; what happens to the child is one line about the file. Starting it costs 0.2 to 0.3 s.

This is no sandbox: a file that takes control of the library has the user's rights.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.read import native_child
from gradscope.read.file_bytes import Foreign, Malformed
from gradscope.read.native_format import MAX_ANSWER, MAX_ENTRIES, TOO_MUCH, answer_of
from gradscope.read.numpy_pickle import checked_shape
from gradscope.read.pickle_stubs import is_text_keyed
from gradscope.read.stored_tensor import ITEM_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    Array = NDArray[Any]

FREE_BYTES: Final = 256 << 20
"""Rows of this many bytes are read from a file of any size: columns of zeros compress 1000:1."""
TIMES_FILE: Final = 64
"""Beyond, rows may take this many times the bytes that the disk holds: frames of games compress 30:1."""
MEMORY_BYTES: Final = 2 << 30
"""Address space of the child: 220 MB are taken once Arrow is imported, rows pass in blocks."""
MEMORY_TIMES: Final = 4
"""And this many times the file: a record batch of Arrow is read whole."""
SECONDS: Final = 30
"""Processor time of the child, for a small file; decoding takes less than 0.1 s for each 10 MB."""
BYTES_A_SECOND: Final = 10 << 20
WALL_TIMES: Final = 5
"""Waiting counts too: on a busy machine, or for a disk far away."""
KEPT_BYTES: Final = 1 << 20
"""Smaller rows are kept in memory: a mapped file holds a handle, and those are few."""
_SIGNALS_OF_LIMITS: Final = frozenset(
    int(getattr(signal, name)) for name in ("SIGXCPU", "SIGKILL") if hasattr(signal, name)
)


@dataclass(frozen=True, kw_only=True)
class NativeRows:
    """What the child found: rows by usual name, or by usual name and key of a Dict observation."""

    format: str
    rows: Mapping[str, Array | Mapping[str, Array]]
    """Views of the temporary file: nothing is in memory before it is used."""
    notes: tuple[str, ...]
    capacity: int | None
    overwritten: bool


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the child may use, by the bytes that its files really have."""

    rows: int
    memory: int
    seconds: int

    @classmethod
    def of(cls, paths: tuple[Path, ...]) -> Limits:
        """A sparse file counts what the disk holds."""
        held = sum(_on_disk(path) for path in paths)
        rows = FREE_BYTES + TIMES_FILE * held
        return cls(
            rows=rows,
            memory=MEMORY_BYTES + MEMORY_TIMES * held,
            seconds=SECONDS + (held + rows - FREE_BYTES) // TIMES_FILE // BYTES_A_SECOND,
        )


def native_rows(task: str, library: str, paths: tuple[Path, ...], **request: object) -> NativeRows:
    """Rows that the child reads: ``task`` is a key of native_task.TASKS, ``request`` what it takes.

    Raises:
        Malformed: the file is damaged, crashed its library, or needs more than the limits allow.
        Foreign: it holds nothing that is read here.
    """
    limits = Limits.of(paths)
    # On a POSIX system the file loses its name at once, so that nothing is left whatever happens.
    with tempfile.TemporaryFile(prefix="gradscope-") as output, _sayable(paths) as names:
        asked = {**request, "task": task, "paths": names, "max_bytes": limits.rows}
        status = _run(library, asked, limits, output)
        answer = answer_of(output)
        if answer is None:
            raise Malformed(_end(status, library, limits), "Read it with the library that wrote it.")
        return _checked(answer, output, library, limits)


@contextmanager
def _sayable(paths: tuple[Path, ...]) -> Iterator[list[str]]:
    """Names that JSON and the libraries take: a path that is no UTF-8 gets a link with another."""
    names = [os.fspath(path) for path in paths]
    if all(name.isascii() or name.encode("utf-8", "replace").decode() == name for name in names):
        yield names
        return
    with tempfile.TemporaryDirectory(prefix="gradscope-") as folder:
        links = [Path(folder) / str(number) for number in range(len(names))]
        for link, name in zip(links, names, strict=True):
            link.symlink_to(Path(name).absolute())
        yield [os.fspath(link) for link in links]


def _run(library: str, asked: Mapping[str, object], limits: Limits, output: IO[bytes]) -> int | None:
    """Exit status of the child, a signal's number negative; None where it was stopped."""
    if not sys.executable:
        raise Malformed(f"is read by a child process for {library}, and no Python is known to start", "")
    here = os.path.realpath(Path.cwd()) if Path.cwd().exists() else ""
    # The same packages as ours, but nothing from the folder that the user happens to be in.
    places = [each for each in sys.path if each and os.path.realpath(each) != here]
    numbers = (limits.memory, limits.seconds, limits.rows + 2 * MAX_ANSWER)
    command = [sys.executable, "-I", "-S", native_child.__file__, *map(str, numbers)]
    try:
        return subprocess.run(  # noqa: S603  our own Python and our own file
            command,
            input=json.dumps({**asked, "python_path": places}).encode(),
            stdout=output,
            stderr=subprocess.DEVNULL,
            timeout=limits.seconds * WALL_TIMES,
            env=os.environ | native_child.ENVIRONMENT,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        return None


def _end(status: int | None, library: str, limits: Limits) -> str:
    """What became of a child that left no answer."""
    if status is None or -status in _SIGNALS_OF_LIMITS:
        return f"took its {library} library longer than {limits.seconds} s"
    if status < 0:
        return f"crashed its {library} library ({_signal_name(-status)})"
    return f"cannot be read by its {library} library (exit status {status})"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _checked(answer: Mapping[str, object], output: IO[bytes], library: str, limits: Limits) -> NativeRows:
    """The child may have been taken over: what it says is looked at like a file."""
    problem, advice = _text(answer.get("problem")), _text(answer.get("advice"))
    if answer.get("kind") == "memory":
        raise Malformed(
            f"needs its {library} library more than {limits.memory >> 20} MiB of memory", TOO_MUCH
        )
    if answer.get("kind") == "foreign":
        raise Foreign(problem, advice)
    entries, notes = answer.get("arrays"), answer.get("notes")
    if problem or not isinstance(entries, list) or not isinstance(notes, list) or len(entries) > MAX_ENTRIES:
        raise Malformed(problem or "was read by a child process that gave no sense", advice)
    content = _content(output)
    rows: dict[str, Any] = {}
    for entry in entries:
        name, key, array = _entry(entry, content)
        if key:
            rows.setdefault(name, {})[key] = array
        else:
            rows[name] = array
    capacity = answer.get("capacity")
    return NativeRows(
        format=_text(answer.get("format")),
        rows=rows,
        notes=tuple(_text(note) for note in notes),
        capacity=capacity if isinstance(capacity, int) else None,
        overwritten=answer.get("overwritten") is True,
    )


def _content(output: IO[bytes]) -> Any:
    size = output.seek(0, os.SEEK_END)
    if size < KEPT_BYTES:
        output.seek(0)
        return output.read()
    import mmap  # noqa: PLC0415  only many rows need it

    return mmap.mmap(output.fileno(), size, access=mmap.ACCESS_READ)


def _entry(entry: object, content: Any) -> tuple[str, str, Array]:
    """Usual name, key and the rows: numpy checks that they lie within the content."""
    if not is_text_keyed(entry) or entry.get("dtype") not in ITEM_BYTES:
        raise Malformed("was read by a child process that gave no sense")
    shape, strides, (offset,) = (
        checked_shape(entry.get("shape")),
        checked_shape(entry.get("strides")),
        checked_shape([entry.get("offset")]),
    )
    dtype = np.dtype(str(entry["dtype"]))
    array: Array = np.ndarray(shape, dtype, buffer=content, offset=offset, strides=strides)
    return _text(entry.get("name")), _text(entry.get("key")), array


def _text(value: object) -> str:
    """One line, and not for ever."""
    return " ".join(value[:1000].split()) if isinstance(value, str) else ""


def _on_disk(path: Path) -> int:
    found = path.stat()
    return min(found.st_size, getattr(found, "st_blocks", found.st_size) * 512)
