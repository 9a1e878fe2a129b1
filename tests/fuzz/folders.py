"""A folder as one input: its files one after another, each with its name and size."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path, PurePosixPath
from typing import Final

_MAGIC: Final = b"FOLDER\r\n"
_PART: Final = struct.Struct("<HI")
_MAX_PARTS: Final = 64


def packed(folder: Path) -> bytes:
    """All regular files below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return of_parts({path.relative_to(folder).as_posix(): path.read_bytes() for path in files})


def of_parts(parts: dict[str, bytes]) -> bytes:
    """The input that these files make."""
    blocks = [_MAGIC]
    for name, content in parts.items():
        encoded = name.encode("utf-8", "surrogateescape")[:1000]
        blocks += [_PART.pack(len(encoded), len(content)), encoded, content]
    return b"".join(blocks)


def is_packed(content: bytes) -> bool:
    """Whether an input stands for a folder."""
    return content.startswith(_MAGIC)


def parts(content: bytes) -> dict[str, bytes]:
    """Files of an input by name; what is cut off is shorter."""
    position, found = len(_MAGIC), {}
    while position + _PART.size <= len(content) and len(found) < _MAX_PARTS:
        length, size = _PART.unpack_from(content, position)
        start = position + _PART.size + length
        name = content[position + _PART.size : start].decode("utf-8", "replace")
        found[name] = content[start : start + size]
        position = start + size
    return found


def unpacked(content: bytes, folder: Path) -> Path:
    """Write the files below ``folder``; names that would leave it are left out."""
    root = folder / "input-folder"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name, each in parts(content).items():
        pure = PurePosixPath(name.replace("\0", ""))
        if not name or pure.is_absolute() or ".." in pure.parts or not pure.name:
            continue
        path = root / pure
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(each)
        except OSError:  # a name that no file can have, or one of a folder
            continue
    return root
