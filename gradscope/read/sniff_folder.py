"""Which folders are one artifact, told by the names in them; the bytes are looked at by their reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    Listing = Callable[[Collection[str], Collection[str]], bool]

TORCHRL: Final = "torchrl"
FOLDERS: Final[Mapping[str, Listing]] = {
    TORCHRL: lambda files, folders: "buffer_metadata.json" in files and "storage" in folders,
}
"""Reader's name -> whether a folder with these (file names, folder names) is one of its artifacts.

Names are those of the folder itself, hidden ones included, not of what lies below.
"""


def folder_format(files: Collection[str], folders: Collection[str]) -> str | None:
    """The reader that takes a folder with these names whole; None for an ordinary folder."""
    return next((name for name, is_one in FOLDERS.items() if is_one(files, folders)), None)
