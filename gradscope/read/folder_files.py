"""Files of a folder that is one artifact: named by another file in it, so never believed to stay in it."""

from __future__ import annotations

import json
import os
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from gradscope.read.file_bytes import Malformed, section_of
from gradscope.read.pickle_stubs import is_text_keyed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gradscope.read.file_bytes import Section

MAX_JSON_BYTES: Final = 64 << 20
"""An index of 20,000 tensors takes about 2 MB, a log of 100,000 entries about 20 MB."""
_SHOWN: Final = 80


def names_in(folder: Path) -> tuple[str, ...]:
    """Names of what is no folder, sorted; none where the folder cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return tuple(sorted(each.name for each in entries if not each.is_dir(follow_symlinks=False)))
    except (OSError, ValueError):
        return ()


def parts_named(folder: Path, names: Iterable[str]) -> tuple[Path, ...]:
    """Regular files of these names, or links to such."""
    paths = (folder / name for name in names)
    return tuple(path for path in paths if path.is_file())


def part_of(folder: Path, relative: object, named_by: str) -> Section:
    """The file that another one of the folder names.

    Raises:
        Malformed: no name, one that leads out of the folder, or nothing is there.
        UnreadableFile: it is empty, no regular file, or may not be read.
    """
    if not isinstance(relative, str) or not relative or "\0" in relative:
        raise Malformed(f"{named_by} names a file without a name")
    shown = repr(relative[:_SHOWN])
    pure = PurePosixPath(relative)
    path = folder / relative
    if pure.is_absolute() or ".." in pure.parts or "\\" in relative:
        raise Malformed(f"{named_by} names {shown}, which leads out of the folder", "Leave it out.")
    if not os.path.lexists(path):
        raise Malformed(f"lacks {shown}, which {named_by} names", "Copy the whole folder again.")
    if str(pure) != relative:
        # ./a, ././a, a//b: one file under names without end.
        raise Malformed(f"{named_by} names {shown}, which is not the plain name of a file", "Leave it out.")
    check_within(folder, path, shown)
    return section_of(path)


def check_within(folder: Path, path: Path, shown: str) -> None:
    """Links may lead from one file of a folder to another of it.

    Raises:
        Malformed: it leads out of the folder, or never ends.
    """
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:  # RuntimeError: what Python before 3.13 says of a loop
        raise Malformed(f"{shown} is a link that leads to itself", "Copy the whole folder again.") from error
    if not inside:
        raise Malformed(f"{shown} is a link that leads out of the folder", "Copy its file into the folder.")


def json_object(file: Section) -> dict[str, object]:
    """A JSON file's object.

    Raises:
        Malformed: too large, no JSON, or no object.
        OSError: the file cannot be opened any more.
    """
    name = file.path.name[:_SHOWN]
    if file.size > MAX_JSON_BYTES:
        raise Malformed(f"{name} has {file.size} bytes; at most {MAX_JSON_BYTES} are read")
    try:
        value = json.loads(file.read(0, file.size))
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{name} is no JSON") from error
    if not is_text_keyed(value):
        raise Malformed(f"{name} is no JSON object")
    return value
