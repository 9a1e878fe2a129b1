"""Compressed members of a zip, inflated as far as the file's real size justifies."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradscope.read.file_bytes import Malformed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradscope.read.zip_members import Member

DEFLATED: Final = 8
MAX_RATIO: Final = 1032
"""Deflate packs no more into a byte (zlib.net, "Zlib Technical Details"); who claims more lies."""
INFLATED_BYTES: Final = 1 << 30
"""What any file may take in memory when it is inflated; ring buffers that are mostly unwritten pack well."""
HONEST_RATIO: Final = 20
"""A larger file may take this many times its size: floats of a buffer pack 1.1 to 10 times."""
_BLOCK: Final = 1 << 20
_ADVICE: Final = "Save it with numpy.savez, not numpy.savez_compressed."


@dataclass(frozen=True, kw_only=True)
class Deflated:
    """One compressed member; it is inflated each time it is read."""

    member: Member

    @property
    def size(self) -> int:
        """Bytes of its content, as claimed."""
        return self.member.size

    def read(self, start: int, size: int) -> bytes:
        """A range of its content.

        Raises:
            Malformed: it lies outside, or the member is damaged.
        """
        if start < 0 or size < 0 or start + size > self.size:
            raise Malformed(f"bytes {start} to {start + size} lie outside the {self.size} there are")
        return bytes(memoryview(self._inflated(start + size))[start:])

    def view(self, start: int, size: int) -> memoryview:
        """A range of its content, which is inflated whole and must fit the checksum.

        Raises:
            Malformed: it lies outside, or the member is damaged.
        """
        name = self.member.name[:80]
        found = self._inflated(self.size)
        if zlib.crc32(found) != self.member.checksum:
            raise Malformed(f"has a damaged member {name!r}: its checksum differs")
        if start < 0 or size < 0 or start + size > self.size:
            raise Malformed(f"bytes {start} to {start + size} lie outside the {self.size} there are")
        return memoryview(found)[start : start + size]

    def _inflated(self, most: int) -> bytearray:
        """The first ``most`` bytes of the content."""
        packed = self.member.section()
        machine, found = zlib.decompressobj(-zlib.MAX_WBITS), bytearray()
        try:
            for position in range(0, packed.size, _BLOCK):
                block = packed.read(position, min(_BLOCK, packed.size - position))
                while block and len(found) < most:
                    found += machine.decompress(block, min(_BLOCK, most - len(found)))
                    block = machine.unconsumed_tail
                if machine.eof or len(found) >= most:
                    break
        except zlib.error as error:
            raise Malformed(
                f"has a damaged member {self.member.name[:80]!r}: it cannot be inflated"
            ) from error
        if len(found) < most:
            raise Malformed(
                f"has a member {self.member.name[:80]!r} that ends {most - len(found)} bytes early"
            )
        return found


def check_inflation(members: Iterable[Member], file_size: int) -> None:
    """Refuse what would take more memory than the file justifies, before anything is inflated.

    Raises:
        Malformed: a member claims more than deflate can pack, all together too much, or another method.
    """
    total = 0
    for member in members:
        name = member.name[:80]
        if member.method != DEFLATED:
            raise Malformed(f"has a member {name!r} packed by method {member.method}", _ADVICE)
        packed = member.packed or 0
        if member.size > packed * MAX_RATIO + _BLOCK:
            raise Malformed(f"has a member {name!r} that claims {member.size} bytes in {packed}")
        total += member.size
    most = max(INFLATED_BYTES, HONEST_RATIO * file_size)
    if total > most:
        raise Malformed(f"would take {total} bytes when inflated; at most {most} are", _ADVICE)
