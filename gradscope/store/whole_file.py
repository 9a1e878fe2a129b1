"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import re
import tempfile
import time
from pathlib import Path
from typing import Final

LEFT_SECONDS: Final = 60
"""A file of a process that is gone is left over from then on; another machine's process looks gone too."""


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part.

    What killed processes have left of earlier tries is removed.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    _remove_left_over(path)
    # The name says whose it is: a process that was killed cannot clean up after itself.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.{os.getpid()}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        # mkstemp makes private files; a result file is an ordinary one.
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _remove_left_over(path: Path) -> None:
    """Remove files of this name that processes which are gone were writing."""
    pattern = re.compile(re.escape(f".{path.name[:100]}.") + r"([0-9]+)\.[a-z0-9_]{8}")
    try:
        left = [(each, found) for each in path.parent.iterdir() if (found := pattern.fullmatch(each.name))]
    except OSError:
        return
    for each, found in left:
        try:
            if not is_alive(int(found[1])) and time.time() - each.stat().st_mtime > LEFT_SECONDS:
                each.unlink()
        except OSError:
            continue


def is_alive(process: int) -> bool:
    """Whether a process of this machine has that number."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        # Somebody else's.
        return True
    return True
