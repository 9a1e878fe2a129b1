"""Members of a zip, as ranges of its file. Nothing is inflated or extracted.

The standard library's zipfile would do, but it inflates what it is asked for, keeps the file
open, and takes the last of several members of one name.
Format: PKWARE APPNOTE 6.3, sections 4.3.7 (local header), 4.3.12 (directory), 4.3.14 to 16 (end).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradscope.read.file_bytes import DAMAGED, Malformed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.read.file_bytes import Section

_END: Final = struct.Struct("<4s4H2LH")
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64: Final = struct.Struct("<4sLQL")
_ENTRY: Final = struct.Struct("<4s6H3L5H2L")
_LOCAL: Final = struct.Struct("<4s5H3L2H")
MAX_DIRECTORY_BYTES: Final = 64 << 20
"""20,000 tensors take about 2 MB."""
_MAX_COMMENT: Final = 0xFFFF
_FULL: Final = 0xFFFFFFFF
"""A 32-bit field that says: look into the 64-bit extra field."""
_ZIP64_EXTRA: Final = 1
_ENCRYPTED: Final = 1


@dataclass(frozen=True, kw_only=True)
class Member:
    """One member; its local header is looked at when it is read."""

    name: str
    archive: Section
    header: int
    """Where its local header begins in the archive."""
    size: int
    """Bytes of its content, as the directory claims."""
    checksum: int
    method: int = 0
    """How it is packed: 0 stored, 8 deflated."""
    packed: int | None = None
    """Bytes that it takes in the file; None: as many as its content."""

    @property
    def is_stored(self) -> bool:
        """Whether its content lies in the file as it is."""
        return self.method == 0 and self.packed in {None, self.size}

    def section(self) -> Section:
        """What the file holds of the member: its content where it is stored, else that packed.

        Raises:
            Malformed: its local header is damaged, or it lies outside of the archive.
        """
        fields = _LOCAL.unpack(self.archive.read(self.header, _LOCAL.size))
        if fields[0] != b"PK\x03\x04":
            raise Malformed(f"has a damaged member {self.name[:80]!r}")
        return self.archive.part(
            self.header + _LOCAL.size + fields[9] + fields[10],
            self.size if self.packed is None else self.packed,
        )

    def read(self, start: int, size: int) -> bytes:
        """A range of the member's bytes.

        Raises:
            Malformed: it lies outside of the member.
        """
        return self.section().read(start, size)

    def content(self, most: int) -> bytes:
        """All bytes, which must fit the checksum.

        Raises:
            Malformed: larger than ``most``, or damaged.
        """
        if self.size > most:
            raise Malformed(f"has a member {self.name[:80]!r} of {self.size} bytes; at most {most} are read")
        content = self.read(0, self.size)
        if zlib.crc32(content) != self.checksum:
            raise Malformed(f"has a damaged member {self.name[:80]!r}: its checksum differs")
        return content


def zip_members(archive: Section) -> Mapping[str, Member]:
    """Stored members by name, in the directory's order; compressed ones are left out.

    Raises:
        Malformed: no directory, a damaged one, two members of one name, or encryption.
    """
    return {name: each for name, each in all_members(archive).items() if each.is_stored}


def all_members(archive: Section) -> Mapping[str, Member]:
    """Members by name, in the directory's order.

    Raises:
        Malformed: no directory, a damaged one, two members of one name, or encryption.
    """
    start, size = _directory(archive)
    if size > MAX_DIRECTORY_BYTES:
        raise Malformed(f"claims a zip directory of {size} bytes")
    directory = archive.read(start, size)
    members: dict[str, Member] = {}
    position = 0
    while position < size:
        fields = _fields(directory, position)
        end = position + _ENTRY.size + fields[10] + fields[11] + fields[12]
        member = _member(archive, directory, position, fields)
        if member.name in members:
            raise Malformed(f"holds two members named {member.name[:80]!r}", "Leave it out: it was altered.")
        members[member.name] = member
        position = end
    claimed = sum(each.size if each.packed is None else each.packed for each in members.values())
    if claimed > archive.size:
        problem = f"has members of {claimed} bytes in a zip of {archive.size}: they lie on each other"
        raise Malformed(problem, "Leave it out: it was altered.")
    return members


def wanted(members: Mapping[str, Member], name: str) -> Member:
    """The member of that name.

    Raises:
        Malformed: there is none, or it is compressed.
    """
    if name not in members:
        raise Malformed(f"lacks the uncompressed member {name[:80]!r}", DAMAGED)
    return members[name]


def _fields(directory: bytes, position: int) -> tuple[int, ...]:
    if position + _ENTRY.size > len(directory) or directory[position : position + 4] != b"PK\x01\x02":
        raise Malformed("has a damaged zip directory")
    signature, *fields = _ENTRY.unpack_from(directory, position)
    return (len(signature), *fields)


def _member(archive: Section, directory: bytes, position: int, fields: tuple[int, ...]) -> Member:
    flags, method, checksum, packed, size = fields[3], fields[4], fields[7], fields[8], fields[9]
    name_end = position + _ENTRY.size + fields[10]
    name = directory[position + _ENTRY.size : name_end].decode("utf-8", "replace")
    extra = directory[name_end : name_end + fields[11]]
    size, packed, header = _wide(extra, [size, packed, fields[16]])
    if flags & _ENCRYPTED:
        raise Malformed(f"has an encrypted member {name[:80]!r}", "Decrypt it.")
    return Member(
        name=name,
        archive=archive,
        header=header,
        size=size,
        checksum=checksum,
        method=method,
        packed=packed,
    )


def _wide(extra: bytes, numbers: list[int]) -> list[int]:
    """Replace 32-bit numbers that are full by those of the 64-bit extra field, in its order."""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == _ZIP64_EXTRA:
            values = extra[position + 4 : position + 4 + length]
            for index, number in enumerate(numbers):
                if number == _FULL:
                    numbers[index] = int.from_bytes(values[:8], "little")
                    values = values[8:]
            break
        position += 4 + length
    return numbers


def _directory(archive: Section) -> tuple[int, int]:
    """Start and size of the directory."""
    tail_size = min(archive.size, _END.size + _MAX_COMMENT)
    tail = archive.read(archive.size - tail_size, tail_size)
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or found + _END.size > tail_size:
        raise Malformed(
            "is a zip without an end", "It is cut off: copy it again, or wait until it is written."
        )
    *_, size, start, _ = _END.unpack_from(tail, found)
    if _FULL in {size, start}:
        start, size = _directory64(archive, archive.size - tail_size + found)
    return start, size


def _directory64(archive: Section, end: int) -> tuple[int, int]:
    locator = _LOCATOR64.unpack(archive.read(end - _LOCATOR64.size, _LOCATOR64.size))
    fields = _END64.unpack(archive.read(locator[2], _END64.size))
    if locator[0] != b"PK\x06\x07" or fields[0] != b"PK\x06\x06":
        raise Malformed("has a damaged zip directory")
    return fields[9], fields[8]
