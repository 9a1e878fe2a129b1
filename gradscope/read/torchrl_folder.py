"""torchrl's ReplayBuffer.dumps folders: raw arrays in C order, described by JSON; nothing else is opened.

Source: torchrl/data/replay_buffers (checkpointers, writers), tensordict's memory-mapped layout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.read import sniff_folder
from gradscope.read.checked_json import table, text
from gradscope.read.file_bytes import Foreign, Malformed, reading
from gradscope.read.folder_files import json_object, part_of
from gradscope.read.held_rows import described, held_replay
from gradscope.read.numpy_pickle import checked_shape
from gradscope.read.rows import (
    DONES,
    NAME_THEM,
    NEXT,
    OBSERVATIONS,
    REWARDS,
    TERMINATIONS,
    TIMEOUTS,
    named_rows,
)
from gradscope.read.stored_tensor import ITEM_BYTES
from gradscope.read.torchrl_written import Written, written

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from gradscope.records import Replay

    Array = NDArray[Any]

_STORAGE: Final = "storage"
_META: Final = "meta.json"
_TREE: Final = "its items are no TensorDict, or storage/meta.json was not copied"
_MAX_DEPTH: Final = 5
_MAX_ENTRIES: Final = 1_000
_OUTCOMES: Final = {
    REWARDS: "next/reward",
    DONES: "next/done",
    TERMINATIONS: "next/terminated",
    TIMEOUTS: "next/truncated",
}


@dataclass(frozen=True, kw_only=True)
class TorchrlFolder:
    """Reader of dumped buffers that store a TensorDict (LazyTensorStorage, LazyMemmapStorage)."""

    format: str = sniff_folder.TORCHRL
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Everything below the folder belongs to the buffer."""
        return True

    def accepts(self, path: Path) -> bool:
        """Whether the folder holds the names of a dump."""
        try:
            return (path / "buffer_metadata.json").is_file() and (path / _STORAGE).is_dir()
        except (OSError, ValueError):
            return False

    def parts(self, path: Path) -> tuple[Path, ...]:
        """Regular files below the folder."""
        try:
            return tuple(sorted(each for each in path.rglob("*") if each.is_file() and not each.is_symlink()))
        except (OSError, ValueError):
            return ()

    def read(self, path: Path) -> Replay:
        """Open a buffer: rows that were written, in order of collection; large arrays are mapped.

        Raises:
            UnreadableFile: damaged, or the JSON contradicts the files.
            ForeignFile: its items have no observations.
        """
        with reading(path):
            there = _described_by(path, (_STORAGE,))
            ring = written(path, checked_shape(there.get("shape")))
            entries = _entries(path, (_STORAGE,), there, ring)
            found = held_replay(path, self.format, entries, _keys(entries, self.keys), notes=ring.notes)
            if found is None:
                raise Foreign(described(entries), NAME_THEM)
            return ring.marked(found)


def _described_by(folder: Path, place: tuple[str, ...]) -> dict[str, object]:
    """meta.json of a TensorDict."""
    try:
        return json_object(part_of(folder, "/".join((*place, _META)), "the dump"))
    except Malformed as error:
        if len(place) == 1 and "lacks" in error.problem:
            raise Foreign(f"is a torchrl buffer without observations: {_TREE}", "") from error
        raise


def _entries(
    folder: Path, place: tuple[str, ...], there: Mapping[str, object], ring: Written, depth: int = 0
) -> dict[str, Any]:
    """Arrays by name; what lies under ``next`` is next/NAME, other groups are dicts by key."""
    found: dict[str, Any] = {}
    if depth > _MAX_DEPTH or len(there) > _MAX_ENTRIES:
        raise Malformed("describes more than a buffer holds")
    for name, value in there.items():
        about = table(value)
        if not name or name in {".", ".."} or "/" in name or "\\" in name:
            raise Malformed(f"has an entry {name[:80]!r} that is no name")
        if "dtype" in about:
            array = _array(folder, (*place, name), about, ring)
            if array is not None:
                found[name] = array
        elif about.get("type") is not None:
            inside = (*place, name)
            inner = _entries(folder, inside, _described_by(folder, inside), ring, depth + 1)
            if name == "next" and depth == 0:
                found |= {f"{name}/{key}": each for key, each in inner.items()}
            elif inner:
                found[name] = _flat(inner)
    return found


def _flat(entries: Mapping[str, Any]) -> dict[str, Array]:
    """Arrays of nested groups by dotted name."""
    found: dict[str, Array] = {}
    for name, each in entries.items():
        inner = (
            {f"{name}.{key}": array for key, array in each.items()}
            if isinstance(each, dict)
            else {name: each}
        )
        found |= inner
    return found


def _array(folder: Path, place: tuple[str, ...], about: Mapping[str, object], ring: Written) -> Array | None:
    """The rows of one entry that were written; None where they are no numbers of numpy's."""
    dtype = (text(about.get("dtype")) or "").removeprefix("torch.")
    if dtype not in ITEM_BYTES or "float8" in dtype or dtype == "bfloat16":
        return None
    shape = checked_shape(about.get("shape"))
    if shape[: len(ring.batch)] != ring.batch:
        raise Malformed(f"has an entry {place[-1][:80]!r} of shape {shape} in a buffer of shape {ring.batch}")
    size = math.prod(shape) * ITEM_BYTES[dtype]
    if not size:
        return None
    file = part_of(folder, "/".join(place) + ".memmap", "the dump")
    if file.size != size:
        raise Malformed(f"{place[-1][:80]!r} has {file.size} bytes; its shape {shape} needs {size}")
    taken = size // shape[0] * ring.num_rows
    flat = np.frombuffer(file.view(0, taken), np.dtype(dtype)) if taken else np.empty(0, dtype)
    return ring.ordered(flat.reshape(ring.num_rows, *shape[1:]))


def _keys(entries: Mapping[str, object], keys: Mapping[str, str]) -> dict[str, str]:
    """What is what: torchrl's own names, and what the user says."""
    own = keys.get(OBSERVATIONS) or named_rows([*entries, "reward"], {}).get(OBSERVATIONS, "")
    usual = {**_OUTCOMES, OBSERVATIONS: own, NEXT: f"next/{own}"}
    found = {name: each for name, each in usual.items() if each in entries}
    return {**found, **{name: each for name, each in keys.items() if each in entries}}
