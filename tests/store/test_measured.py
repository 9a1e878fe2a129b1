from __future__ import annotations

import multiprocessing
import os
import resource
import sqlite3
import time
from typing import TYPE_CHECKING

import pytest

from gradscope.store import measured
from gradscope.store.file_states import are_settled, file_states
from gradscope.store.measured import Measured

if TYPE_CHECKING:
    from pathlib import Path


def opened(directory: Path, notices: list[str] | None = None, *, is_made: bool = True) -> Measured:
    return Measured(directory=directory, notice=([] if notices is None else notices).append, is_made=is_made)


def test_what_is_kept_comes_back_in_another_process(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert store.get("a") is None
        store.put("a", b"x" * 1000)
    with opened(tmp_path) as store:
        assert (store.get("a"), store.get("b"), store.num_found) == (b"x" * 1000, None, 1)
    assert [each.name for each in (tmp_path / ".gradscope").iterdir()] == ["measured.db"]


def test_nothing_is_made_where_it_was_not_asked_for(tmp_path: Path) -> None:
    with opened(tmp_path, is_made=False) as store:
        store.put("a", b"x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_set_aside_with_a_notice(tmp_path: Path, content: bytes) -> None:
    notices: list[str] = []
    (tmp_path / ".gradscope").mkdir()
    (tmp_path / ".gradscope" / "measured.db").write_bytes(content)
    with opened(tmp_path, notices) as store:
        assert store.get("a") is None
        store.put("a", b"x")
    assert len(notices) == 1
    assert "set aside as measured.damaged.db" in notices[0]
    assert (tmp_path / ".gradscope" / "measured.damaged.db").read_bytes() == content
    with opened(tmp_path, notices) as store:
        store.put("a", b"x")
    assert len(notices) == 1


@pytest.mark.parametrize("change", ["PRAGMA user_version = 999", "CREATE TABLE theirs (x)"])
def test_a_file_of_another_version_or_of_somebody_else_is_not_touched(tmp_path: Path, change: str) -> None:
    notices: list[str] = []
    (tmp_path / ".gradscope").mkdir()
    theirs = sqlite3.connect(tmp_path / ".gradscope" / "measured.db")
    theirs.execute("CREATE TABLE measured (key)")
    theirs.execute(change)
    theirs.close()
    with opened(tmp_path, notices) as store:
        assert store.get("a") is None
    assert "somebody else's; it is set aside" in notices[0]


def test_a_row_that_was_changed_is_not_believed(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put("a", b"x" * 1000)
        store.put("b", b"y")
    database = sqlite3.connect(tmp_path / ".gradscope" / "measured.db")
    database.execute("UPDATE measured SET document = (SELECT document FROM measured WHERE key = 'b')")
    database.commit()
    database.close()
    with opened(tmp_path) as store:
        assert (store.get("a"), store.get("b")) == (None, b"y")


def test_a_folder_in_its_place_is_a_notice(tmp_path: Path) -> None:
    notices: list[str] = []
    (tmp_path / ".gradscope" / "measured.db").mkdir(parents=True)
    with opened(tmp_path, notices) as store:
        store.put("a", b"x")
        assert store.get("a") is None
    assert len(notices) == 1
    assert notices[0].endswith("is no file")


def test_a_file_in_the_place_of_the_folder_is_a_notice(tmp_path: Path) -> None:
    notices: list[str] = []
    (tmp_path / ".gradscope").write_text("mine")
    with opened(tmp_path, notices) as store:
        store.put("a", b"x")
    assert len(notices) == 1
    assert (tmp_path / ".gradscope").read_text() == "mine"


def test_a_full_disk_is_one_notice_and_what_was_kept_stays(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put("a", b"x")
    writer = multiprocessing.get_context("fork").Process(target=_fill, args=(tmp_path,))
    writer.start()
    writer.join()
    assert writer.exitcode == 7
    with opened(tmp_path) as store:
        assert store.get("a") == b"x"


def _fill(directory: Path) -> None:
    """A limit on file sizes stands for the full disk: writes fail half-way, for real."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    notices: list[str] = []
    with opened(directory, notices) as store:
        for number in range(100):
            store.put(f"b{number}", os.urandom(10_000))
    os._exit(7 if len(notices) == 1 and "not kept" in notices[0] else 1)


def test_the_longest_unused_goes_first_and_the_limit_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices: list[str] = []
    monkeypatch.setattr(measured, "MAX_BYTES", 3 << 20)
    content = {name: os.urandom(1 << 20) for name in "abcde"}
    for name in "abc":
        with opened(tmp_path, notices) as store:
            store.put(name, content[name])
    assert len(notices) == 1
    with opened(tmp_path, notices) as store:
        assert store.get("a") is None
        assert store.get("b") == content["b"]
        store.put("d", content["d"])
    assert "holds at most 3 MB: 1 measurements unused" in notices[-1]
    with opened(tmp_path, notices) as store:
        assert [name for name in "abcde" if store.get(name)] == ["c", "d"]
    assert (tmp_path / ".gradscope" / "measured.db").stat().st_size < 3 << 20


def test_what_nobody_used_for_long_is_dropped(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.put("old", b"x")
        store.put("new", b"x")
    long_ago = time.time_ns() - (measured.MAX_DAYS + 1) * 86_400 * 10**9
    database = sqlite3.connect(tmp_path / ".gradscope" / "measured.db")
    database.execute("UPDATE measured SET used = ?", (long_ago,))
    database.commit()
    database.close()
    with opened(tmp_path) as store:
        assert store.get("new") == b"x"
    with opened(tmp_path) as store:
        assert (store.get("old"), store.get("new")) == (None, b"x")


def test_several_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_many, args=(tmp_path, number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    with opened(tmp_path) as store:
        assert all(store.get(f"{number}-{at}") for number in range(4) for at in range(30))


def _write_many(directory: Path, number: int) -> None:
    notices: list[str] = []
    for at in range(30):
        with opened(directory, notices) as store:
            store.put(f"{number}-{at}", b"x" * 1000)
            store.get(f"{number - 1}-{at}")
    if notices:
        raise AssertionError(notices)


def test_states_follow_what_a_file_is(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    first = file_states([path])
    assert not are_settled(first)
    os.utime(path, ns=(1, 1))
    assert not are_settled(file_states([path])), "only a time that can be set lies back"
    second = file_states([path])
    time.sleep(0.1)
    assert are_settled(file_states([path]))
    path.write_text("y")
    os.utime(path, ns=(1, 1))
    assert file_states([path]) != second, "same size, number and mtime"
    (tmp_path / "b").write_text("y")
    (tmp_path / "b").replace(path)
    assert file_states([path]) != first
    path.unlink()
    assert file_states([path]) == [None]
    assert not are_settled([None])
