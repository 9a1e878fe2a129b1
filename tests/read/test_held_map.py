"""Mapped files that shrink while they are held: no crash, and nothing that was read of them is used."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradscope.errors import UnreadableFile
from gradscope.read import file_bytes
from gradscope.read.file_bytes import reading, section_of
from gradscope.recompute.mapped import release

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = np.arange(50_000, dtype=np.float64)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is mapped however small it is."""
    monkeypatch.setattr(file_bytes, "MAPPED_BYTES", 0)
    NUMBERS.tofile(tmp_path / "numbers")
    return tmp_path / "numbers"


@pytest.mark.parametrize("left", [0, 1, 4096, 100_000])
def test_a_map_whose_file_shrank_gives_zeros_and_says_so(path: Path, left: int) -> None:
    array = np.frombuffer(section_of(path).view(0, NUMBERS.nbytes), np.float64)
    os.truncate(path, left)
    there = left // 8
    assert np.array_equal(array[:there], NUMBERS[:there])
    assert not array[-1]
    assert not array[there + 1 :].any()
    with pytest.raises(UnreadableFile, match="numbers: changed while it was read"):
        release(array)


def test_the_map_of_another_file_is_untouched(path: Path, tmp_path: Path) -> None:
    NUMBERS.tofile(tmp_path / "other")
    other = np.frombuffer(section_of(tmp_path / "other").view(0, NUMBERS.nbytes), np.float64)
    broken = np.frombuffer(section_of(path).view(8, NUMBERS.nbytes - 8), np.float64)
    path.write_bytes(b"")
    assert not broken.any()
    release(other)
    assert np.array_equal(other, NUMBERS)


@pytest.mark.parametrize("change", ["shorter", "same size"])
def test_what_was_parsed_from_a_file_that_changes_is_refused(path: Path, change: str) -> None:
    with pytest.raises(UnreadableFile, match="changed while it was read"), reading(path):  # noqa: PT012  in between
        array = np.frombuffer(section_of(path).content(), np.float64)
        path.write_bytes(bytes(NUMBERS.nbytes if change == "same size" else 100))
        assert not array[20_000:].any()


def test_a_file_that_changed_before_is_read_anew(path: Path) -> None:
    old = np.frombuffer(section_of(path).content(), np.float64)
    (NUMBERS + 1).tofile(path)
    with reading(path):
        new = np.frombuffer(section_of(path).content(), np.float64)
    assert np.array_equal(new, NUMBERS + 1)
    with pytest.raises(UnreadableFile):
        release(old)


def test_another_file_in_its_place_is_no_change(path: Path, tmp_path: Path) -> None:
    array = np.frombuffer(section_of(path).content(), np.float64)
    np.zeros(3).tofile(tmp_path / "new")
    (tmp_path / "new").replace(path)
    release(array)
    assert np.array_equal(array, NUMBERS)


ALONE = """
import os, signal, sys
import numpy as np
from gradscope.read.file_bytes import section_of
array = np.frombuffer(section_of(__import__("pathlib").Path(sys.argv[1])).content(), np.uint8)
os.truncate(sys.argv[1], 0)
assert not array[::4096].any()
del array
for _ in range(3):
    os.kill(os.getpid(), signal.SIGBUS)
"""


def test_a_bus_error_of_another_kind_still_ends_the_process(tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(file_bytes.MAPPED_BYTES)
    done = subprocess.run([sys.executable, "-c", ALONE, str(tmp_path / "big")], check=False)
    assert done.returncode == -signal.SIGBUS


def test_whoever_took_the_signal_since_does_not_matter(path: Path) -> None:
    first = np.frombuffer(section_of(path).content(), np.uint8)
    assert first[0] == 0
    faulthandler.enable()
    array = np.frombuffer(section_of(path).content(), np.uint8)
    os.truncate(path, 0)
    assert not array.any()
