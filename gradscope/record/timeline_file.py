"""Append-only JSON lines that stay readable whatever happens to the process."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class TimelineFile:
    """Each line goes out in one unbuffered write, so a killed process tears the last line at most."""

    def __init__(self, path: Path) -> None:
        self.path = path
        torn = ends_torn(path)
        self._file = path.open("ab", buffering=0)
        if torn:
            self._write(b"\n")

    def append(self, line: Mapping[str, object]) -> None:
        """Write one line; after close() nothing happens."""
        text = json.dumps(line, allow_nan=False, separators=(",", ":"))
        if not self._file.closed:
            self._write(text.encode() + b"\n")

    def close(self) -> None:
        """Write no more."""
        self._file.close()

    def _write(self, line: bytes) -> None:
        # A full disk takes part of a line first and then nothing; it must not end a training run of days.
        try:
            problem = None if self._file.write(line) == len(line) else "the last line was cut short"
        except OSError as error:
            problem = error.strerror
        if problem is not None:
            self.close()
            warnings.warn(f"{self.path}: no more timeline: {problem}. Free some space.", stacklevel=2)


def ends_torn(path: Path) -> bool:
    """Whether the file's last line lacks its end, as a kill in the middle of a write leaves it."""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) != b"\n"
