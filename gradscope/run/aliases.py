"""Links: another name of a file that is found under its own name is no second file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gradscope.records import LeftOut

if TYPE_CHECKING:
    from pathlib import Path

    from gradscope.run.find import Found

    _Inode = tuple[int, int]

NOT_FOLLOWED = "a link to a folder is not followed. Name it as PATH"


def folder_link(link: Path, top: Path) -> str:
    """Why a link to a folder is left out: its folder is found under ``top`` itself, or lies elsewhere."""
    target, root = os.path.realpath(link), os.path.realpath(top)
    if target == root or not target.startswith(root + os.sep):
        return NOT_FOLLOWED
    return f"a link to {os.path.relpath(target, root)}, which is looked at itself"


def leave_out_aliases(found: Found) -> None:
    """Leave out links, and further hard links, to files that are looked at under another name.

    A name that was given as PATH stays; then the others are left out.
    """
    first = _first_names(found)
    for path in list(found.artifacts):
        inode = _inode(path)
        other = first.get(inode) if inode is not None else None
        if other is not None and other != path and path not in found.named:
            del found.artifacts[path]
            kind = "a link to" if path.is_symlink() else "the same file (hard link) as"
            reason = f"{kind} {found.relative(other)}, which is looked at itself"
            found.skipped.append(LeftOut(source=found.relative(path), reason=reason))


def _first_names(found: Found) -> dict[_Inode, Path]:
    """The name each linked file goes by: one that was given, else its own, else the first by name."""
    named = frozenset(found.named)
    names: dict[_Inode, Path] = {}
    for path in sorted(found.artifacts, key=lambda each: (each not in named, each.is_symlink(), str(each))):
        inode = _inode(path)
        if inode is not None:
            names.setdefault(inode, path)
    return names


def _inode(path: Path) -> _Inode | None:
    """Device and number of the file behind a name; None where it cannot be told."""
    try:
        state = path.stat()
    except OSError:
        return None
    return (state.st_dev, state.st_ino) if state.st_ino else None
