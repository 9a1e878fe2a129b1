"""``.metadata`` of torch.distributed.checkpoint: which slice of which file holds what.

A pickle of dataclasses (torch/distributed/checkpoint/metadata.py and filesystem.py): every tensor's
chunks with their offsets, and for every chunk or object (name, offset) its file, first byte and length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gradscope.read.file_bytes import Malformed
from gradscope.read.folder_files import part_of
from gradscope.read.numpy_pickle import NUMPY_TABLE, checked_shape
from gradscope.read.pickle_stubs import Global, Stub, attributes
from gradscope.read.safe_pickle import unpickled
from gradscope.read.stored_tensor import ITEM_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gradscope.read.file_bytes import Section

METADATA: Final = ".metadata"
MAX_PICKLE_BYTES: Final = 256 << 20
"""A chunk takes about 150 bytes."""
_TABLE: Final = {**NUMPY_TABLE, ("torch", "Size"): lambda given: given[0] if given else ()}
MIN_SLICE: Final = 22
"""Bytes of the smallest zip."""

Place = tuple[str, tuple[int, ...] | None]


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A block of a tensor, written by one process."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    slice: Section
    """A torch zip of the block alone."""


@dataclass(frozen=True, kw_only=True)
class DcpTensor:
    """A tensor and the chunks that should make it up."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, kw_only=True)
class DcpContent:
    """Everything a folder holds, by its full name."""

    tensors: Mapping[str, DcpTensor] = field(default_factory=dict)
    objects: Mapping[str, Section] = field(default_factory=dict)
    """What is no tensor: a torch zip each."""
    unknown: tuple[str, ...] = ()
    """Names in the pickle that only got a stub."""
    notes: tuple[str, ...] = ()


def dcp_content(folder: Path) -> DcpContent:
    """What ``.metadata`` lists, each slice checked to lie within its file.

    Raises:
        Malformed: damaged, or a slice is missing or leads out of the folder.
        UnreadableFile: a file of the folder cannot be read.
    """
    file = part_of(folder, METADATA, "the format")
    if file.size > MAX_PICKLE_BYTES:
        raise Malformed(f"{METADATA} has {file.size} bytes; at most {MAX_PICKLE_BYTES} are read")
    found = unpickled(file.read(0, file.size), _TABLE)
    content = attributes(found.value)
    described, stored = content.get("state_dict_metadata"), content.get("storage_data")
    if not isinstance(described, dict) or not isinstance(stored, dict):
        raise Malformed(f"{METADATA} lists no tensors and slices")
    slices = _Slices(folder=folder, places=_places(stored))
    tensors: dict[str, DcpTensor] = {}
    objects: dict[str, Section] = {}
    strange: list[str] = []
    for name, entry in described.items():
        given = attributes(entry)
        if not isinstance(name, str):
            raise Malformed(f"{METADATA} has a name that is no text")
        if "chunks" not in given:
            objects[name] = slices.of((name, None))
        elif (dtype := _dtype(given.get("properties"))) is None:
            strange.append(name)
        else:
            tensors[name] = _tensor(name, dtype, given, slices)
    notes = (f"{len(strange)} tensors of a dtype that is not read: {strange[0][:80]}",) if strange else ()
    return DcpContent(tensors=tensors, objects=objects, unknown=found.unknown, notes=notes)


@dataclass(kw_only=True)
class _Slices:
    folder: Path
    places: Mapping[Place, Mapping[str, object]]
    files: dict[str, Section] = field(default_factory=dict)
    taken: int = 0
    number: int = 0
    num_bytes: int = 0
    """Of all files met so far."""

    def of(self, place: Place) -> Section:
        """The bytes of an object or a chunk."""
        info = self.places.get(place)
        if info is None:
            raise Malformed(f"{METADATA} says nowhere where {place[0][:80]!r} lies")
        name, start, length = info.get("relative_path"), info.get("offset"), info.get("length")
        if info.get("transform_descriptors"):
            raise Malformed(f"holds {place[0][:80]!r} compressed", "Save it without extensions.")
        if type(start) is not int or type(length) is not int:
            raise Malformed(f"{METADATA} gives no range for {place[0][:80]!r}")
        if not isinstance(name, str) or name not in self.files:
            file = part_of(self.folder, name, METADATA)
            self.files[str(name)] = file
            self.num_bytes += file.size
        self.taken += length
        self.number += 1
        # Honest slices lie one behind the other; names that share one would each be read anew.
        if self.taken > 4 * self.num_bytes or self.number * MIN_SLICE > 4 * self.num_bytes:
            raise Malformed(f"{METADATA} lists {self.number} slices that lie on each other", "Leave it out.")
        return self.files[str(name)].part(start, length)


def _places(stored: Mapping[object, object]) -> Mapping[Place, Mapping[str, object]]:
    places: dict[Place, Mapping[str, object]] = {}
    for index, info in stored.items():
        given = attributes(index)
        name, offset = given.get("fqn"), given.get("offset")
        if isinstance(name, str):
            places[name, None if offset is None else checked_shape(offset)] = attributes(info)
    return places


def _tensor(name: str, dtype: str, given: Mapping[str, object], slices: _Slices) -> DcpTensor:
    shape, chunks = checked_shape(given.get("size")), given.get("chunks")
    if not isinstance(chunks, list):
        raise Malformed(f"{METADATA} has a tensor {name[:80]!r} without chunks")
    found = tuple(_chunk(name, attributes(each), shape, slices) for each in chunks)
    elements = math.prod(shape)
    if sum(math.prod(each.sizes) for each in found) != elements:
        raise Malformed(f"holds not all of tensor {name[:80]!r}, of shape {shape}")
    # Slices may be named twice, so their lengths alone justify nothing.
    if elements * ITEM_BYTES[dtype] > slices.num_bytes:
        raise Malformed(f"claims a tensor of shape {shape} in {slices.num_bytes} bytes")
    return DcpTensor(name=name, dtype=dtype, shape=shape, chunks=found)


def _chunk(name: str, given: Mapping[str, object], shape: Sequence[int], slices: _Slices) -> Chunk:
    offsets, sizes = checked_shape(given.get("offsets")), checked_shape(given.get("sizes"))
    ends = [start + size for start, size in zip(offsets, sizes, strict=False)]
    if not len(offsets) == len(sizes) == len(shape) or any(
        end > size for end, size in zip(ends, shape, strict=True)
    ):
        raise Malformed(f"{METADATA} has a chunk outside of tensor {name[:80]!r}")
    return Chunk(offsets=offsets, sizes=sizes, slice=slices.of((name, offsets)))


def _dtype(properties: object) -> str | None:
    """Of TensorProperties: its state is a tuple that begins with the dtype, or in old files a dict."""
    state = properties.state if isinstance(properties, Stub) else None
    first = state[0] if isinstance(state, tuple) and state else attributes(properties).get("dtype")
    if not isinstance(first, Global) or first.module != "torch":
        return None
    return first.name if first.name in ITEM_BYTES else None
