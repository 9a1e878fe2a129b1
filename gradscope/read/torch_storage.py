"""Storages that a torch pickle refers to: members of a zip, or ranges behind a legacy stream's pickles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradscope.read.file_bytes import Malformed
from gradscope.read.pickle_stubs import Global

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gradscope.read.stored_tensor import Readable
    from gradscope.read.zip_members import Member

STORAGE_DTYPES: Final[Mapping[str, tuple[str, int]]] = {
    "FloatStorage": ("float32", 4),
    "DoubleStorage": ("float64", 8),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
    "ComplexFloatStorage": ("complex64", 8),
    "ComplexDoubleStorage": ("complex128", 16),
    "UntypedStorage": ("uint8", 1),
    "QInt8Storage": ("qint8", 1),
    "QUInt8Storage": ("quint8", 1),
    "QInt32Storage": ("qint32", 4),
    "QUInt4x2Storage": ("quint4x2", 1),
    "QUInt2x4Storage": ("quint2x4", 1),
}
"""Dtype and bytes of an element, by the class that a persistent id names (of torch or torch.cuda)."""
NUM_FIELDS: Final = 5
"""Of a persistent id: "storage", class, key, location, number of elements."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Storage:
    """One storage, or a view of one, which holds at least ``num_elements``."""

    key: str
    dtype: str
    width: int
    """Bytes of an element."""
    num_elements: int
    bytes: Readable
    path: Path
    room: int
    """Bytes of the whole file."""
    start: int = 0
    """Of a view: its first element in ``bytes``."""


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """What a persistent id says of a storage; where it was located (cuda:0, mps) does not matter."""

    key: str
    dtype: str
    width: int
    count: int


def claimed_storage(identity: object, num_fields: int) -> Claimed:
    """A persistent id of a torch pickle.

    Raises:
        Malformed: it is none, or of an unknown type.
    """
    if not isinstance(identity, tuple) or len(identity) != num_fields or identity[0] != "storage":
        raise Malformed("refers to objects outside of it")
    _, kind, key, _, count = identity[:NUM_FIELDS]
    known = STORAGE_DTYPES.get(kind.name) if isinstance(kind, Global) else None
    if known is None:
        raise Malformed(f"has a storage of unknown type {kind if isinstance(kind, Global) else ''}")
    if not isinstance(key, str) or type(count) is not int or not 0 <= count < 1 << 62:
        raise Malformed("has a storage without name or size")
    return Claimed(key=key, dtype=known[0], width=known[1], count=count)


@dataclass(frozen=True, kw_only=True, eq=False)
class ZipStorages:
    """Storages of a zip archive; ``folder`` holds them and ends with a slash."""

    members: Mapping[str, Member]
    folder: str

    def storage(self, identity: object) -> Storage:
        """The storage a persistent id names.

        Raises:
            Malformed: it is no storage, missing, or shorter than claimed.
        """
        found = claimed_storage(identity, NUM_FIELDS)
        member = self.members.get(f"{self.folder}{found.key}")
        if member is None:
            raise Malformed(f"lacks storage {found.key[:80]!r}, or it is compressed")
        if found.count * found.width > member.size:
            size = f"{found.key[:80]!r} of {member.size} bytes"
            raise Malformed(f"has a storage {size} that claims {found.count} elements")
        return Storage(
            key=found.key,
            dtype=found.dtype,
            width=found.width,
            num_elements=found.count,
            bytes=member,
            path=member.archive.path,
            room=member.archive.size,
        )
