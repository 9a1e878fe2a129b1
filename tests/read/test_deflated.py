"""Compressed members: what zipfile inflates, and bombs that are refused before any memory is taken."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradscope.read.deflated import Deflated, check_inflation
from gradscope.read.file_bytes import Malformed, section_of
from gradscope.read.zip_members import all_members

if TYPE_CHECKING:
    from pathlib import Path

    from gradscope.read.zip_members import Member

CONTENT = np.random.default_rng(0).integers(0, 4, 3_000_000).astype(np.uint8).tobytes()


def zipped(path: Path, contents: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, each in contents.items():
            archive.writestr(name, each)
    return path


def members(path: Path) -> list[Member]:
    return list(all_members(section_of(path)).values())


def claiming(path: Path, size: int, method: int | None = None) -> Path:
    """The same zip whose directory claims another size (and method) for every member."""
    content = bytearray(path.read_bytes())
    position = content.find(b"PK\x01\x02")
    while position >= 0:
        struct.pack_into("<L", content, position + 24, size)
        if method is not None:
            struct.pack_into("<H", content, position + 10, method)
        position = content.find(b"PK\x01\x02", position + 4)
    path.write_bytes(content)
    return path


def test_content_is_what_was_packed(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"one": CONTENT, "none": b""})
    one, none = (Deflated(member=each) for each in members(path))
    check_inflation(members(path), path.stat().st_size)
    assert bytes(one.view(0, one.size)) == CONTENT
    assert one.read(10, 20) == CONTENT[10:30]
    assert bytes(one.view(7, 9)) == CONTENT[7:16]
    assert bytes(none.view(0, 0)) == b""
    for start, size in ((0, len(CONTENT) + 1), (-1, 2), (len(CONTENT), 1)):
        with pytest.raises(Malformed):
            one.read(start, size)


@pytest.mark.parametrize("size", [100, len(CONTENT) - 1])
def test_a_member_longer_than_claimed_fails_its_checksum(tmp_path: Path, size: int) -> None:
    (member,) = members(claiming(zipped(tmp_path / "a.zip", {"one": CONTENT}), size))
    with pytest.raises(Malformed, match="its checksum differs"):
        Deflated(member=member).view(0, size)


def test_a_member_shorter_than_claimed(tmp_path: Path) -> None:
    (member,) = members(claiming(zipped(tmp_path / "a.zip", {"one": CONTENT}), len(CONTENT) + 5))
    with pytest.raises(Malformed, match="ends 5 bytes early"):
        Deflated(member=member).view(0, member.size)


def test_damaged_content(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"one": CONTENT})
    content = bytearray(path.read_bytes())
    content[500:600] = bytes(100)
    path.write_bytes(content)
    (member,) = members(path)
    with pytest.raises(Malformed, match="damaged member 'one'"):
        Deflated(member=member).view(0, member.size)


def refused(path: Path, words: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Malformed, match=words):
            check_inflation(members(path), path.stat().st_size)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_lie_that_deflate_cannot_pack(tmp_path: Path) -> None:
    refused(
        claiming(zipped(tmp_path / "a.zip", {"one": CONTENT[:1000]}), 1 << 31), "claims 2147483648 bytes in"
    )


def test_a_bomb_that_deflate_can_pack(tmp_path: Path) -> None:
    noise = os.urandom(1 << 20)
    stored = zipped(tmp_path / "a.zip", {"one": noise, "two": noise}, zipfile.ZIP_STORED)
    refused(claiming(stored, 600 << 20, zipfile.ZIP_DEFLATED), "would take 1258291200 bytes")


def test_other_ways_of_packing(tmp_path: Path) -> None:
    refused(zipped(tmp_path / "a.zip", {"one": CONTENT[:1000]}, zipfile.ZIP_BZIP2), "packed by method 12")


def test_what_numpy_packs_of_an_unwritten_buffer_is_no_bomb(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, obs=np.zeros((100_000, 20), np.float32))
    (tmp_path / "a.npz").write_bytes(stream.getvalue())
    check_inflation(members(tmp_path / "a.npz"), len(stream.getvalue()))
