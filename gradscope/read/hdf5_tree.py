"""In the child: what an HDF5 file holds, by hard links only; nothing outside of the file is opened.

Refused, each by name: soft, external and user-defined links, virtual datasets, data in other files,
filters that are plugins, references and texts (they are no numbers), chunks that no file needs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import h5py
import numpy as np

from gradscope.read.file_bytes import Malformed
from gradscope.read.native_output import BLOCK_BYTES, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

MAX_OBJECTS: Final = 200_000
"""Groups and datasets; d3rlpy writes four for each episode."""
MAX_DEPTH: Final = 16
MAX_CHUNK: Final = 256 << 20
"""Bytes of one chunk: it is unpacked whole."""
FILTERS: Final = frozenset({1, 2, 3, 4, 5, 6, 32000})
"""Deflate, shuffle, fletcher32, szip, nbit, scale-offset and LZF: what HDF5 and h5py come with."""
UNPACK: Final = "Write its numbers to .npz, or leave it out."
_JPEG: Final = b"\xff\xd8\xff"
_LINKS: Final = {1: "a soft link", 64: "a link to another file"}


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A dataset, by its path of hard links."""

    path: str
    shape: tuple[int, ...] | None


Node: TypeAlias = "dict[str, Node | Leaf]"


@dataclass(kw_only=True)
class Tree:
    """Groups as dicts, datasets as leaves."""

    file: Any
    root: Node = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """Path -> what it is, of links that are not followed."""

    def attribute(self, name: str) -> int | None:
        """A whole number among the root's attributes; any other kind of attribute is never read."""
        if name.encode() not in self.file.id and not h5py.h5a.exists(self.file.id, name.encode()):
            return None
        attribute = h5py.h5a.open(self.file.id, name.encode())
        if attribute.shape != () or attribute.get_type().get_class() != h5py.h5t.INTEGER:
            return None
        return int(self.file.attrs[name])

    def numbers(self, leaf: Leaf) -> Any:
        """The dataset, ready to be read by ranges of rows.

        Raises:
            Malformed: it holds no numbers, or they lie elsewhere, or its chunks are absurd.
        """
        dataset = h5py.Dataset(h5py.h5d.open(self.file.id, leaf.path.encode("utf-8", "surrogateescape")))
        if (problem := _problem(dataset)) is not None:
            raise Malformed(f"has a dataset {leaf.path[:80]!r} that {problem}", UNPACK)
        return dataset

    def value(self, leaf: Leaf) -> NDArray[Any]:
        """All of a small dataset (numbers about others).

        Raises:
            Malformed: it is none of numbers, or not small.
        """
        dataset = self.numbers(leaf)
        if dataset.size * dataset.dtype.itemsize > BLOCK_BYTES:
            raise Malformed(f"has a dataset {leaf.path[:80]!r} of {dataset.shape}, more than it can have")
        return np.asarray(dataset[()])


def tree_of(path: str) -> Tree:
    """Everything that hard links lead to; a group that is met again is left out.

    Raises:
        Malformed: too many objects, or nested too deep.
        OSError: libhdf5 finds it damaged.
    """
    tree = Tree(file=h5py.File(path, "r", locking=False))
    seen = {_address(tree.file.id)}
    left: list[tuple[str, Any, Node]] = [("", h5py.h5g.open(tree.file.id, b"/"), tree.root)]
    count = 0
    while left:
        place, group, node = left.pop()
        for raw, opened in _children(place, group, tree):
            count += 1
            name = raw.decode("utf-8", "surrogateescape")
            below = f"{place}/{name}"
            if count > MAX_OBJECTS or below.count("/") > MAX_DEPTH:
                raise Malformed(f"has more than {MAX_OBJECTS} objects, or {MAX_DEPTH} groups in each other")
            if isinstance(opened, h5py.h5d.DatasetID):
                node[name] = Leaf(path=below, shape=opened.shape)
            elif isinstance(opened, h5py.h5g.GroupID) and _address(opened) not in seen:
                seen.add(_address(opened))
                inner: Node = {}
                node[name] = inner
                left.append((below, opened, inner))
    return tree


def leaves(node: Node | Leaf) -> Iterator[tuple[str, Leaf]]:
    """Datasets below, by what of their path lies below, joined with dots; "" for a dataset itself."""
    if isinstance(node, Leaf):
        yield "", node
        return
    for name, child in node.items():
        # minari's entries of a Tuple observation
        own = name.removeprefix("_index_")
        for key, leaf in leaves(child):
            yield (f"{own}.{key}" if key else own), leaf


def _children(place: str, group: Any, tree: Tree) -> Iterator[tuple[bytes, Any]]:
    for name in group:
        kind = group.links.get_info(name).type
        if kind == h5py.h5l.TYPE_HARD:
            yield name, h5py.h5o.open(group, name)
        elif len(tree.refused) < MAX_OBJECTS:
            shown = name.decode("utf-8", "replace")
            tree.refused[f"{place}/{shown}"] = _LINKS.get(kind, "a link of a kind of its own")


def _address(opened: Any) -> int:
    return int(h5py.h5o.get_info(opened).addr)


def _problem(dataset: Any) -> str | None:
    """Why its numbers cannot be had from this file alone."""
    made = dataset.id.get_create_plist()
    if made.get_layout() == h5py.h5d.VIRTUAL:
        return "is put together from other files (a virtual dataset)"
    if made.get_external_count():
        return "has its data in another file (external storage)"
    if dataset.shape is None or plain(dataset.dtype) is None:
        return f"holds no numbers ({str(dataset.dtype)[:40]})"
    return _problem_of_chunks(dataset, made) or (
        "holds images compressed as JPEG" if _is_jpeg(dataset) else None
    )


def _problem_of_chunks(dataset: Any, made: Any) -> str | None:
    filters = [made.get_filter(place)[0] for place in range(made.get_nfilters())]
    if unknown := [each for each in filters if each not in FILTERS]:
        return f"needs a plugin to unpack it (HDF5 filter {unknown[0]})"
    chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    return f"has chunks of {chunk >> 20} MiB" if chunk > MAX_CHUNK else None


def _is_jpeg(dataset: Any) -> bool:
    """Minari's images: bytes of one length by chance, which are no pixels."""
    if dataset.dtype != np.uint8 or len(dataset.shape) != 2 or 0 in dataset.shape:  # noqa: PLR2004
        return False
    return bytes(dataset[0, : len(_JPEG)]) == _JPEG
