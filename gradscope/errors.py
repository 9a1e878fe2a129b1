"""Every error a user can mend, with its exit code.

    GradscopeError            2   anything a user can mend
    ├── UsageError            2   an option, a configuration file or a PATH is wrong
    ├── UnreadableFile        3   one file of a known format cannot be read; the rest goes on
    │   └── ForeignFile       3   whole, but nothing in it is of use here: skipped in a folder
    ├── NothingReadable       4   no file at all could be read
    └── Interrupted         130   Ctrl-C before there was anything to show

A failed ``assert`` is our mistake, never the user's. Each message is one line:
what is wrong, the offending value, what to try.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path


class GradscopeError(Exception):
    """Something the user can mend; its text is one line that says how."""

    exit_code: ClassVar[int] = 2


class UsageError(GradscopeError):
    """Wrong option, wrong configuration, or a PATH that does not exist."""


class UnreadableFile(GradscopeError):
    """A file of a known format that cannot be read."""

    exit_code: ClassVar[int] = 3

    def __init__(self, path: Path, problem: str, advice: str = "") -> None:
        """Say what is wrong with ``path`` and what to try."""
        self.path = path
        self.reason = _one_line(f"{problem.rstrip('.')}. {advice}".strip())
        super().__init__(f"{path}: {self.reason}")


def _one_line(text: str) -> str:
    """Names within a file may hold line ends and what steers a terminal: they are written out."""
    return text if text.isprintable() else "".join(_shown(char) for char in text)


def _shown(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()


class ForeignFile(UnreadableFile):
    """A whole file of a known container (npz, HDF5, CSV, pickle) that holds nothing read here.

    In a folder it is skipped, as a file of no known format is; named alone it is an error.
    """


class NothingReadable(GradscopeError):
    """No checkpoint could be read at all."""

    exit_code: ClassVar[int] = 4


class Interrupted(GradscopeError):
    """Ctrl-C before there was anything to show."""

    exit_code: ClassVar[int] = 130
