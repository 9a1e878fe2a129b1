from __future__ import annotations

import json
import multiprocessing
import os
import resource
import time
from typing import TYPE_CHECKING

import pytest

from gradscope.errors import UsageError
from gradscope.settings import Settings
from gradscope.store import FOLDER, LAST_SCAN, LastScan, last_scan, remember, state_key, write_whole

if TYPE_CHECKING:
    from pathlib import Path


def one_scan(number: int = 0) -> LastScan:
    return LastScan(
        paths=["checkpoints"], options={"n": number}, key=str(number), document={"x": [number] * 20_000}
    )


def test_what_is_remembered_comes_back(tmp_path: Path) -> None:
    remember(one_scan(3), tmp_path)
    assert last_scan(tmp_path) == one_scan(3)
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [LAST_SCAN]


def test_nothing_remembered_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gradscope scan PATH"):
        last_scan(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"paths": 1}', "[" * 100_000, "\udcff"])
def test_a_damaged_store_says_what_to_type(tmp_path: Path, content: str) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / LAST_SCAN).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match="gradscope scan PATH"):
        last_scan(tmp_path)


def test_an_edited_store_is_not_believed(tmp_path: Path) -> None:
    remember(one_scan(3), tmp_path)
    path = tmp_path / FOLDER / LAST_SCAN
    path.write_text(path.read_text("utf-8").replace('"n": 3', '"n": 4'), "utf-8")
    with pytest.raises(UsageError, match="gradscope scan PATH"):
        last_scan(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    target = tmp_path / "results.json"
    target.write_text("old")
    writer = multiprocessing.get_context("fork").Process(target=_write_beyond_the_limit, args=(target,))
    writer.start()
    writer.join()
    assert writer.exitcode == 7
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def _write_beyond_the_limit(target: Path) -> None:
    """A limit on file sizes stands for the full disk: the write fails half-way, for real."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    try:
        write_whole(target, "new" * 100_000)
    except OSError:
        os._exit(7)


def test_written_files_have_ordinary_permissions(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_two_commands_at_once_leave_one_whole_scan(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_often, args=(tmp_path, number)) for number in (1, 2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if (tmp_path / FOLDER / LAST_SCAN).exists():
            found = last_scan(tmp_path)
            assert found == one_scan(found.options["n"])
    assert [writer.exitcode for writer in writers] == [0, 0]


def _write_often(directory: Path, number: int) -> None:
    for _ in range(20):
        remember(one_scan(number), directory)


def test_the_key_follows_settings_and_files(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("x")
    before = state_key(Settings(), [file])
    assert before == state_key(Settings(), [file])
    assert before != state_key(Settings(zero_tolerance=0.0), [file])
    os.utime(file, ns=(1, 1))
    assert before != state_key(Settings(), [file])
    file.unlink()
    assert json.loads(state_key(Settings(), [file]))[2] == {str(file): None}


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writer = context.Process(target=_write_for_ever, args=(tmp_path / "results.json",))
    writer.start()
    while not (left := list(tmp_path.glob(".results.json.*"))):
        time.sleep(0.001)
    writer.kill()
    writer.join()
    left = list(tmp_path.glob(".results.json.*"))
    write_whole(tmp_path / "results.json", "new")
    assert list(tmp_path.glob(".results.json.*")) == left, "another machine may still be writing it"
    for each in left:
        os.utime(each, (1, 1))
    (tmp_path / ".results.json.mine").touch()
    write_whole(tmp_path / "results.json", "new")
    assert sorted(each.name for each in tmp_path.iterdir()) == [".results.json.mine", "results.json"]


def _write_for_ever(target: Path) -> None:
    while True:
        write_whole(target, "x" * 10_000_000)
