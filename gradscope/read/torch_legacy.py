"""What torch.save wrote before 1.6, and still does with ``_use_new_zipfile_serialization=False``.

A stream: three pickles (magic number, version, sizes of the machine's types), the pickle of the value,
a pickled list of storage keys, then each storage in that order: its number of elements (int64), its bytes.
Format: torch/serialization.py, _legacy_save and _legacy_load.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gradscope.read.file_bytes import Malformed
from gradscope.read.safe_pickle import next_pickle
from gradscope.read.torch_archive import TorchArchive
from gradscope.read.torch_pickle import TorchTable
from gradscope.read.torch_storage import NUM_FIELDS, Claimed, Storage, claimed_storage

if TYPE_CHECKING:
    from gradscope.read.file_bytes import Bytes, Section

MAGIC: Final = 0x1950A86A20F9469CFC6C
VERSION: Final = 1001
_COUNT_BYTES: Final = 8


@dataclass(kw_only=True, eq=False)
class LateBytes:
    """A storage's bytes; where they lie is known only after the pickles that refer to it."""

    section: Section | None = None

    @property
    def size(self) -> int:
        """Bytes there are."""
        return self.section.size if self.section else 0

    def read(self, start: int, size: int) -> bytes:
        """Exactly these bytes.

        Raises:
            Malformed: they lie outside.
        """
        if self.section is None:
            raise Malformed("lacks a storage")
        return self.section.read(start, size)


@dataclass(frozen=True, kw_only=True, eq=False)
class LegacyStorages:
    """Storages by key as the pickle claims them, placed once it has been read."""

    file: Section
    claimed: dict[str, Claimed] = field(default_factory=dict)
    places: dict[str, LateBytes] = field(default_factory=dict)

    def storage(self, identity: object) -> Storage:
        """The storage a persistent id names; its last entry tells a view of one: (key, first, length).

        Raises:
            Malformed: it is none, or its claims contradict each other or the file's size.
        """
        if isinstance(identity, tuple) and len(identity) > 1 and identity[0] == "module":
            return identity[1]  # type: ignore[no-any-return]  # a class with its source, from torch before 1.0
        found = claimed_storage(identity, NUM_FIELDS + 1)
        assert isinstance(identity, tuple)
        known = self.claimed.setdefault(found.key, found)
        if known != found or found.count * found.width > self.file.size:
            raise Malformed(f"has a storage {found.key[:80]!r} that claims {found.count} elements")
        start, count = _view(identity[NUM_FIELDS], found)
        return Storage(
            key=found.key,
            dtype=found.dtype,
            width=found.width,
            num_elements=count,
            bytes=self.places.setdefault(found.key, LateBytes()),
            path=self.file.path,
            room=self.file.size,
            start=start,
        )

    def place(self, keys: object, data: Bytes, start: int) -> None:
        """Give every storage its range; they begin at ``start`` of ``data``, the whole file.

        Raises:
            Malformed: a storage is missing, not claimed, or of another size; or bytes are left.
        """
        # The text of nested lists that share each other can be endless: only texts are compared.
        if (
            not isinstance(keys, list)
            or not all(isinstance(each, str) for each in keys)
            or sorted(keys) != sorted(self.claimed)
        ):
            raise Malformed("does not list the storages that it refers to")
        for key in keys:
            claimed = self.claimed[key]
            # Not self.file.read: it opens the file each time, and there may be 20,000 of them.
            if start + _COUNT_BYTES > len(data):
                raise Malformed("ends before its last storage")
            count = int.from_bytes(data[start : start + _COUNT_BYTES], "little", signed=True)
            if count != claimed.count:
                raise Malformed(f"has a storage of {count} elements that claims {claimed.count}")
            size = count * claimed.width
            self.places[key].section = self.file.part(start + _COUNT_BYTES, size)
            start += _COUNT_BYTES + size
        if start != self.file.size:
            left = self.file.size - start
            raise Malformed(f"holds {left} bytes after its end", "Leave this file out: it was altered.")


def legacy_archive(file: Section) -> TorchArchive:
    """Open a stream; its storages stay in the file.

    Raises:
        Malformed: no such stream, damaged, or a part of it lies out of bounds.
        OSError: the file cannot be opened any more.
    """
    data, position = file.content(), 0
    heads: list[object] = []
    for _ in range(3):
        head, position = next_pickle(data, position, {})
        heads.append(head.value)
    if heads[:2] != [MAGIC, VERSION]:
        raise Malformed("is no torch file, though it begins like one")
    storages = LegacyStorages(file=file)
    found, position = next_pickle(data, position, TorchTable().calls(), storages.storage)
    keys, position = next_pickle(data, position, {})
    storages.place(keys.value, data, position)
    return TorchArchive(value=found.value, unknown=found.unknown)


def _view(view: object, whole: Claimed) -> tuple[int, int]:
    """First element and length of the part of a storage that is meant."""
    if view is None:
        return 0, whole.count
    if not isinstance(view, tuple) or len(view) != 3 or not all(type(each) is int for each in view[1:]):  # noqa: PLR2004
        raise Malformed("has a view of a storage that is none")
    _, start, count = view
    if start < 0 or count < 0 or start + count > whole.count:
        raise Malformed(f"has a view that leaves its storage of {whole.count} elements")
    return start, count
