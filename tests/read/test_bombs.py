"""Small files that share without end, each opened in a process of its own: seconds and memory are bounded."""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING, Any

import bombs
import pytest
import torch
from open_alone import opened_alone

from gradscope.errors import UnreadableFile
from gradscope.read import open_file, reader_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPARE_BYTES = 96 << 20
TIMES_FILE = 20
SECONDS = 20
"""On a busy machine; each took from 20 s without an end, or all memory, before."""


def assert_bounded(path: Path) -> None:
    files = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
    size = sum(each.stat().st_size for each in files)
    found = opened_alone(path)
    assert "died" not in found["outcome"], found
    assert "more memory" not in found["outcome"], found
    assert found["seconds"] < SECONDS, found
    assert found["peak"] < SPARE_BYTES + TIMES_FILE * size, found


@pytest.mark.parametrize("name", bombs.PICKLES)
def test_a_pickle_that_shares_without_end(name: str, tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(bombs.PICKLES[name]()))
    assert_bounded(tmp_path / "m.pkl")


@pytest.mark.parametrize("name", bombs.TORCH)
def test_a_torch_file_that_shares_without_end(name: str, tmp_path: Path) -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)  # modules in each other
    try:
        torch.save(bombs.TORCH[name](), tmp_path / "m.pt")
    finally:
        sys.setrecursionlimit(limit)
    assert_bounded(tmp_path / "m.pt")


@pytest.mark.parametrize("make", bombs.FILES, ids=lambda make: make.__name__)
def test_a_file_that_names_its_bytes_without_end(make: Callable[[Path], Any], tmp_path: Path) -> None:
    assert_bounded(make(tmp_path))


def test_a_carriage_return_within_a_line_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"a,b\n1\r2,3\n")
    assert reader_of(tmp_path / "notes.txt") is None


@pytest.mark.parametrize(
    "header", ["{[]: 1}", "-" * 60_000 + "1", "1" + "+1" * 30_000, "(" * 60_000, "9" * 60_000]
)
def test_a_header_of_npy_that_is_no_description(header: str, tmp_path: Path) -> None:
    length = len(header).to_bytes(2, "little")
    (tmp_path / "m.npy").write_bytes(b"\x93NUMPY\x01\x00" + length + header.encode() + bytes(16))
    with pytest.raises(UnreadableFile, match="damaged header"):
        open_file(tmp_path / "m.npy")
