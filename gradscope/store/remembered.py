"""The last scan of a directory, kept in ``.gradscope/`` so that the next command needs no PATH."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gradscope.errors import UsageError
from gradscope.store.whole_file import write_whole
from gradscope.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gradscope.settings import Settings

FOLDER: Final = ".gradscope"
LAST_SCAN: Final = "last_scan.json"
STORE_SCHEMA: Final = "gradscope/store/1"
CONSENT: Final = ("trust", "code", "model")


@dataclass(frozen=True, kw_only=True)
class LastScan:
    """What ``gradscope scan`` left behind for the commands after it."""

    paths: list[str]
    """Absolute."""
    options: dict[str, Any]
    """Options of that scan that change a measure, as they were given."""
    key: str
    """Settings and state of every file; equal keys mean that the document still holds."""
    document: dict[str, Any]


def state_key(settings: Settings, files: Iterable[Path]) -> str:
    """Version, settings, and size and modification time of every file, as one string.

    Whether and which code of the user's ran is not part of it: results are shown again without any.
    """
    states: dict[str, tuple[int, int] | None] = {}
    for path in files:
        try:
            state = path.lstat()
        except OSError:
            states[str(path)] = None
        else:
            states[str(path)] = (state.st_size, state.st_mtime_ns)
    return json.dumps([__version__, lasting(settings), states], sort_keys=True, default=str)


def lasting(settings: Settings) -> dict[str, Any]:
    """Settings that results depend on, without consent to the user's code; the same file has one path."""
    return {
        name: str(value.absolute()) if isinstance(value, Path) else value
        for name, value in asdict(settings).items()
        if name not in CONSENT
    }


def remember(scan: LastScan, directory: Path) -> None:
    """Replace the remembered scan in one step; an interrupt leaves the old one whole.

    Raises:
        OSError: the directory cannot be written, or the disk is full.
    """
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    # Not asdict: it copies the whole document.
    content = vars(scan)
    document = {"schema": STORE_SCHEMA, "checksum": _checksum(content), "scan": content}
    write_whole(folder / LAST_SCAN, json.dumps(document))


def _checksum(scan: Mapping[str, Any]) -> str:
    """A stored scan that was cut, edited or written by another version does not fit its checksum."""
    content = json.dumps([__version__, scan], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def last_scan(directory: Path) -> LastScan:
    """The scan remembered in this directory.

    Raises:
        UsageError: there is none, or it is damaged; the line says what to type.
    """
    path = directory / FOLDER / LAST_SCAN
    try:
        stored: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
        scan, is_whole = stored["scan"], stored["checksum"] == _checksum(stored["scan"])
    except FileNotFoundError as error:
        raise UsageError("no scan was made in this directory yet. Type: gradscope scan PATH") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}. Type: gradscope scan PATH") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path) from error
    if not is_whole:
        raise _damaged(path)
    return LastScan(**scan)


def _damaged(path: Path) -> UsageError:
    return UsageError(f"{path}: the remembered scan is damaged. Type: gradscope scan PATH")
