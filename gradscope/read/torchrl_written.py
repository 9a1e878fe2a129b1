"""Which rows of a torchrl storage were written, in which order, and how they lie beside each other."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.errors import UnreadableFile
from gradscope.read.checked_json import count
from gradscope.read.file_bytes import Malformed
from gradscope.read.folder_files import json_object, part_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from gradscope.records import Replay

    Array = NDArray[Any]

NO_CURSOR: Final = "does not say where its next row goes: rows are taken in the order in which they lie"


@dataclass(frozen=True, kw_only=True)
class Written:
    """The ring of a dumped buffer."""

    batch: tuple[int, ...]
    """Rows the storage has room for, then what lies side by side (environments)."""
    num_rows: int
    """Rows in time that were written."""
    cursor: int
    """Where the next row will be written."""
    notes: tuple[str, ...] = ()

    @property
    def is_full(self) -> bool:
        """Whether older rows may have been lost."""
        return self.num_rows == self.batch[0]

    def ordered(self, array: Array) -> Array:
        """[rows, *shape], or [rows, environments, *shape] where there are several; the oldest first."""
        if self.is_full and self.cursor:
            array = np.concatenate([array[self.cursor :], array[: self.cursor]])
        rest, environments = array.shape[len(self.batch) :], math.prod(self.batch[1:])
        if environments == 1:
            return array.reshape(self.num_rows, *rest)
        # A number each (reward, done) has an axis of its own in torchrl.
        rest = () if rest == (1,) else rest
        return array.reshape(self.num_rows, environments, *rest)

    def marked(self, replay: Replay) -> Replay:
        """The replay with what the ring says of it."""
        return replace(replay, capacity=self.batch[0], overwritten=self.is_full)


def written(folder: Path, batch: tuple[int, ...]) -> Written:
    """What writer and storage say of the rows.

    Raises:
        Malformed: they contradict each other, or the storage's shape.
    """
    if not batch or 0 in batch:
        raise Malformed("is a torchrl buffer of no shape")
    storage = json_object(part_of(folder, "storage/storage_metadata.json", "the dump"))
    writer = _writer(folder)
    length, cursor, total = (
        count(storage.get("len")),
        count(writer.get("cursor")),
        count(writer.get("write_count")),
    )
    beside = math.prod(batch[1:])
    if length is None:
        raise Malformed("is a torchrl buffer that does not say how many rows it holds")
    # Storages of several dimensions count elements, those of one count rows.
    num_rows = length if total is not None and length == min(total, batch[0]) else length // beside
    num_rows = num_rows if num_rows * beside == length or length <= batch[0] else -1
    if not 0 <= num_rows <= batch[0] or (cursor is not None and cursor > batch[0]):
        raise Malformed(f"says that {length} rows are written to a buffer of shape {batch}")
    is_unsure = cursor is None and num_rows == batch[0]
    return Written(
        batch=batch,
        num_rows=num_rows,
        cursor=(cursor or 0) % batch[0],
        notes=(NO_CURSOR,) if is_unsure else (),
    )


def _writer(folder: Path) -> dict[str, object]:
    """What the writer tells; writers that keep the best rows tell no cursor."""
    try:
        return json_object(part_of(folder, "writer/metadata.json", "the dump"))
    except (Malformed, UnreadableFile):
        return {}
