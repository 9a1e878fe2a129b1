"""What must hold while a parser looks at hostile bytes, whatever they are.

- Nothing is imported, started, connected to, written, or opened beside the input itself. (The one child
  process that calls native libraries, and the file without a name that it answers in, are as they should be.)
- Only UnreadableFile (below the readers: Malformed) is raised; its message is one line that can be shown.
- Nobody is warned: Python would print it.
- Memory stays below ALLOWED_TIMES the input's size plus ALLOWED_BYTES.
"""

from __future__ import annotations

import codecs
import os
import resource
import sys
import tempfile
import threading
import tracemalloc
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from gradscope.errors import UnreadableFile
from gradscope.read.file_bytes import Malformed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ALLOWED_TIMES: Final = 256
"""The dearest byte of a pickle, EMPTY_SET, makes a set of 216 bytes."""
ALLOWED_BYTES: Final = 8 << 20
CHILD: Final = "native_child.py"
MAX_MESSAGE: Final = 4_000
"""Characters of a message without its path."""
_ACTS: Final = (
    *("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.kill"),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"),
    *("os.chmod", "os.chown", "os.putenv", "os.chdir", "os.utime", "shutil.", "socket.", "ctypes."),
    *("pickle.find_class", "marshal.", "code.__new__", "function.__new__", "exec", "webbrowser."),
    *("import", "urllib.", "http.", "ftplib.", "smtplib.", "tempfile."),
)
"""Beginnings of audit events that no parser has a reason to raise."""
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


_CODECS: Final = (
    "latin1 utf-8 utf-16 utf-16-le utf-16-be utf-32 utf-32-le utf-32-be raw_unicode_escape unicode_escape"
)
for _name in _CODECS.split():
    codecs.lookup(_name)  # the interpreter imports its own codecs where they are first met


_SHARED: Final = frozenset({os.devnull, tempfile.gettempdir()})
"""Asked for before anything is watched: to find it, Python opens files."""


class Found(Exception):
    """A property that does not hold."""


class _Watch:
    """Looks at audit events of one thread while it is on; an audit hook can never be taken away."""

    def __init__(self) -> None:
        self.thread: int | None = None
        self.folder = ""
        self.seen: list[str] = []
        self.is_hooked = False

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.thread != threading.get_ident():
            return
        if event == "open":
            self._opened(*arguments)
        elif event == "subprocess.Popen" and CHILD in str(arguments[1]):
            return
        elif event.startswith(_ACTS):
            self.seen.append(f"{event} {str(arguments)[:200]}")

    def _opened(self, path: object, mode: object, flags: object) -> None:
        if isinstance(path, int) or path in _SHARED:
            return  # open already; or, a folder cannot be written, a file in it that has no name
        name = os.fsdecode(path) if isinstance(path, (str, bytes)) else str(path)
        is_written = bool(isinstance(flags, int) and flags & _WRITES) or bool(
            set(str(mode or "r")) & set("wax+")
        )
        if is_written or not os.path.realpath(name).startswith(self.folder):
            self.seen.append(f"open {name!r} {mode} {flags}")

    @contextmanager
    def on(self, folder: Path) -> Iterator[None]:
        """Everything below ``folder`` may be read; nothing else may be done."""
        if not self.is_hooked:
            sys.addaudithook(self.hook)
            self.is_hooked = True
        self.seen.clear()
        self.folder = os.path.realpath(folder)
        self.thread = threading.get_ident()
        try:
            yield
        finally:
            self.thread = None
        if self.seen:
            raise Found(f"acted while it parsed: {self.seen[:5]}")


_WATCH: Final = _Watch()


def check(parse: Callable[[], object], num_bytes: int, folder: Path, *, counts_memory: bool = False) -> None:
    """Run ``parse`` and see that every property holds.

    Args:
        parse: reads the input, and everything that it promises to read later.
        num_bytes: size of the input.
        folder: where the input lies; nothing else may be opened.
        counts_memory: count every allocation (slow); else only a growth of the process is looked into.

    Raises:
        Found: one does not.
    """
    allowed = ALLOWED_TIMES * num_bytes + ALLOWED_BYTES
    before = _peak_of_process()
    if counts_memory:
        tracemalloc.start()
    try:
        with _WATCH.on(folder), warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            _run(parse)
        peak = tracemalloc.get_traced_memory()[1] if counts_memory else 0
    finally:
        tracemalloc.stop()
    if told:
        raise Found(f"warns: {str(told[0].message)[:200]}")
    if peak > allowed:
        raise Found(f"took {peak} bytes of memory for {num_bytes} bytes")
    if not counts_memory and _peak_of_process() - before > allowed:
        check(parse, num_bytes, folder, counts_memory=True)


def _run(parse: Callable[[], object]) -> None:
    try:
        parse()
    except (UnreadableFile, Malformed) as error:
        text = error.reason if isinstance(error, UnreadableFile) else f"{error.problem} {error.advice}"
        if len(text.splitlines()) > 1 or len(text) > MAX_MESSAGE:
            raise Found(f"a message of {len(text)} characters: {text[:300]!r}") from error
        text.encode()


def _peak_of_process() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
