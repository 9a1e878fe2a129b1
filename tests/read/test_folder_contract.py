"""The contract of test_reader_contract.py for readers of folders, part by part of each folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
from format_samples import RECORDS, SAMPLES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradscope.errors import UnreadableFile
from gradscope.read import FolderReader, folder_reader, open_file
from gradscope.read.sniff_folder import FOLDERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOISE: Final = np.random.default_rng(0).bytes(5000)
UNREAD: Final = {
    *("rng_state.pth", "training_args.bin", "scheduler.pt", "config.json"),
    *("loss.csv", "params.json", "model_10.pt", "class_and_ctor_args.pkl", "prefetch.pkl"),
}
"""Parts that are not read, or whose loss costs a name only."""


@pytest.fixture(scope="session")
def folders(sb3_files: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A good folder by reader."""
    place = tmp_path_factory.mktemp("folders")
    return {name: SAMPLES[name](place, sb3_files) for name in FOLDERS}


def is_spare(part: Path) -> bool:
    """torchrl's cursor tells nothing of a buffer that is not full."""
    return part.name in UNREAD or part.parent.name == "writer" or part.name == "buffer_metadata.json"


def used(record: Any) -> None:
    """Read everything a record can give."""
    for mapping in (getattr(record, "layers", {}), getattr(record, "state", {})):
        for value in getattr(mapping, "values", tuple)():
            assert value is not None


def copied(folder: Path, tmp_path: Path) -> tuple[Path, list[Path]]:
    """A copy to do harm to, and its parts."""
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    reader = folder_reader(copy)
    assert isinstance(reader, FolderReader)
    return copy, list(reader.parts(copy))


@pytest.mark.parametrize("name", FOLDERS)
def test_parts_are_files_of_the_folder_and_always_in_the_same_order(
    name: str, folders: dict[str, Path]
) -> None:
    reader = folder_reader(folders[name])
    assert isinstance(reader, FolderReader)
    parts = reader.parts(folders[name])
    assert parts == reader.parts(folders[name])
    assert len(parts) > 1
    assert all(part.is_file() and part.is_relative_to(folders[name]) for part in parts)
    assert reader.parts(folders[name] / "nothing") == ()


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("shown", ["checkpoint", "a\nb", "\x1b[31m", "\u202egpj", "-rf", "b\udcff", "x.zip"])
def test_the_name_of_a_folder_is_only_a_name(
    name: str, shown: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(folders[name], tmp_path / shown)
    record = open_file(tmp_path / shown)
    assert type(record).__name__ == RECORDS[name]
    used(record)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_truncated_part_makes_the_folder_unreadable_in_one_line(
    name: str, share: float, folders: dict[str, Path], tmp_path: Path
) -> None:
    copy, parts = copied(folders[name], tmp_path)
    for part in parts:
        content = part.read_bytes()
        part.write_bytes(content[: int(len(content) * share)])
        if is_spare(part) or (part.suffix == ".csv" and share):
            with contextlib.suppress(UnreadableFile):
                used(open_file(copy))
        else:
            with pytest.raises(UnreadableFile) as caught:
                used(open_file(copy))
            assert "\n" not in str(caught.value), part.name
        part.write_bytes(content)
    used(open_file(copy))


@pytest.mark.parametrize("name", FOLDERS)
def test_a_missing_part_is_told_by_its_name(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    copy, parts = copied(folders[name], tmp_path)
    for part in parts:
        content = part.read_bytes()
        part.unlink()
        if is_spare(part) or part.suffix == ".csv" or part.name == "optimizer.pt":
            with contextlib.suppress(UnreadableFile):
                used(open_file(copy))
        else:
            with pytest.raises(UnreadableFile) as caught:
                used(open_file(copy))
            assert part.name in str(caught.value) or "no known format" in str(caught.value)
        part.write_bytes(content)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("content", [b"", b"\0" * 100, NOISE, b"{}", b"[" * 100_000, b"\x80\x04}."])
def test_a_part_with_other_bytes(name: str, content: bytes, folders: dict[str, Path], tmp_path: Path) -> None:
    copy, parts = copied(folders[name], tmp_path)
    for part in parts:
        own = part.read_bytes()
        part.write_bytes(content)
        with contextlib.suppress(UnreadableFile):
            used(open_file(copy))
        part.write_bytes(own)


@pytest.mark.parametrize("name", FOLDERS)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_never_raise_anything_else(
    name: str, data: st.DataObject, folders: dict[str, Path], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy, parts = copied(folders[name], copy)
    part = data.draw(st.sampled_from([each for each in parts if each.name not in UNREAD]))
    content = bytearray(part.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    part.write_bytes(content)
    try:
        used(open_file(copy))
    except UnreadableFile as error:
        assert "\n" not in str(error)  # noqa: PT017  either outcome is right


@pytest.mark.parametrize("name", FOLDERS)
def test_a_sparse_terabyte_takes_neither_time_nor_memory(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    copy, parts = copied(folders[name], tmp_path)
    for part in parts:
        size = part.stat().st_size
        os.truncate(part, 1 << 40)
        started = time.perf_counter()
        with contextlib.suppress(UnreadableFile):
            used(open_file(copy))
        assert time.perf_counter() - started < 5, part.name
        os.truncate(part, size)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("kind", ["fifo", "folder", "dangling", "loop", "device"])
def test_a_part_that_is_no_file(name: str, kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    copy, parts = copied(folders[name], tmp_path)
    for part in parts:
        shutil.move(part, tmp_path / "kept")
        make = {
            "fifo": os.mkfifo,
            "folder": os.mkdir,
            "dangling": lambda path: path.symlink_to(path.parent / "nothing"),
            "loop": lambda path: path.symlink_to(path),
            "device": lambda path: path.symlink_to("/dev/zero"),
        }[kind]
        make(part)
        with contextlib.suppress(UnreadableFile):
            used(open_file(copy))
        part.rmdir() if kind == "folder" else part.unlink()
        shutil.move(tmp_path / "kept", part)
