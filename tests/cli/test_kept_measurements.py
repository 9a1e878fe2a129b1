"""Scans that are killed, repeated, run side by side or on a full disk give what a fresh one gives."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from checkpoints_made import saved
from run_cli import gradscope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NUM_KILLS = 10


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Sixty small checkpoints with stored gradients, as old as those of yesterday's run."""
    for step in range(1, 61):
        path = saved(tmp_path / "run" / f"model_{step}.pt", seed=step, step=step)
        os.utime(path, (10**9, 10**9))
    return tmp_path / "run"


def rows(directory: Path) -> int:
    database = sqlite3.connect(directory / ".gradscope" / "measured.db", timeout=30)
    (number,) = database.execute("SELECT count(*) FROM measured").fetchone()
    database.close()
    return int(number)


def fresh(run: Path, directory: Path) -> str:
    """What a directory without any store gives."""
    directory.mkdir(exist_ok=True)
    shutil.rmtree(directory / ".gradscope", ignore_errors=True)
    return gradscope("scan", str(run), "--json", directory=directory).out


def test_a_second_scan_measures_only_what_is_new_and_says_the_same(run: Path, tmp_path: Path) -> None:
    first = gradscope("scan", str(run), "--json", directory=tmp_path)
    assert (first.code, rows(tmp_path)) == (0, 60)
    assert gradscope("scan", str(run), "--json", directory=tmp_path).out == first.out
    os.utime(saved(run / "model_61.pt", seed=61, step=61), (10**9, 10**9))
    more = gradscope("scan", str(run), "--json", directory=tmp_path).out
    assert rows(tmp_path) == 61
    assert more == fresh(run, tmp_path / "other")


def test_a_file_that_changed_is_measured_again(run: Path, tmp_path: Path) -> None:
    gradscope("scan", str(run), directory=tmp_path)
    os.utime(saved(run / "model_7.pt", seed=99, step=7), (10**9, 10**9))
    again = gradscope("scan", str(run), "--json", directory=tmp_path).out
    assert again == fresh(run, tmp_path / "other")


def test_other_settings_are_other_measurements(run: Path, tmp_path: Path) -> None:
    gradscope("scan", str(run), directory=tmp_path)
    loose = gradscope("scan", str(run), "--zero-tolerance", "0.1", "--json", directory=tmp_path).out
    other = tmp_path / "other"
    other.mkdir()
    assert loose == gradscope("scan", str(run), "--zero-tolerance", "0.1", "--json", directory=other).out
    assert rows(tmp_path) == 120


def test_recomputed_gradients_come_back_bit_for_bit(sb3_files: Callable[[str], Path], tmp_path: Path) -> None:
    folder = sb3_files("SAC")
    first = gradscope("scan", str(folder), "--json", directory=tmp_path).out
    assert '"origin": "recomputed"' in first
    start = time.perf_counter()
    assert gradscope("scan", str(folder), "--json", directory=tmp_path).out == first
    kept = time.perf_counter() - start
    start = time.perf_counter()
    assert fresh(folder, tmp_path / "other") == first
    assert kept < time.perf_counter() - start
    assert rows(tmp_path) == 2


def test_nothing_is_kept_of_what_the_users_code_did(run: Path, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    gradscope("scan", str(run), "--trust", "--code", str(tmp_path / "code"), directory=tmp_path)
    assert rows(tmp_path) == 0


def test_killed_at_any_moment_the_next_scan_is_right(run: Path, tmp_path: Path) -> None:
    expected = fresh(run, tmp_path / "other")
    command = [sys.executable, "-m", "gradscope", "scan", str(run), "--json"]
    start = time.perf_counter()
    subprocess.run(command, cwd=tmp_path / "other", capture_output=True, check=True)
    longest = time.perf_counter() - start
    draw = random.Random(0)  # noqa: S311 - when to kill is no secret
    for _ in range(NUM_KILLS):
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(draw.uniform(0.2, 1) * longest)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = gradscope("scan", str(run), "--json", directory=tmp_path)
    assert (done.out, done.err, rows(tmp_path)) == (expected, "", 60)


def test_several_commands_at_once_neither_fail_nor_harm_each_other(run: Path, tmp_path: Path) -> None:
    expected = fresh(run, tmp_path)
    commands = [["scan", str(run), "--json"], ["scan", str(run), "--json"], ["correlate", "--json"]]
    for _ in range(2):
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "gradscope", *command],
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for command in commands
        ]
        results = [process.communicate() for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0], results
        assert [out for out, _ in results[:2]] == [expected, expected]
        assert all("locked" not in err and "not kept" not in err for _, err in results)


def test_a_full_disk_costs_the_memory_of_a_scan_and_not_the_scan(run: Path, tmp_path: Path) -> None:
    expected = fresh(run, tmp_path / "other")
    limited = f"ulimit -f 8; exec {sys.executable} -m gradscope scan {run} --json"
    done = subprocess.run(
        ["/bin/sh", "-c", limited], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, expected)
    assert "measurements are not kept" in done.stderr
    assert "this scan is not remembered" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB, where mounting is permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if not made or made.returncode:
        pytest.skip("mounting is not permitted here")
    yield folder
    subprocess.run([shutil.which("umount") or "", str(folder)], check=True)


def test_a_disk_that_is_full_for_real(run: Path, tmp_path: Path, tiny_disk: Path) -> None:
    expected = fresh(run, tmp_path / "other")
    for _ in range(2):
        done = gradscope("scan", str(run), "--json", directory=tiny_disk)
        assert (done.code, done.out) == (0, expected)
        assert "not kept" in done.err


def test_a_directory_that_cannot_be_written_is_a_notice(run: Path, tmp_path: Path) -> None:
    expected = fresh(run, tmp_path / "other")
    (tmp_path / ".gradscope").write_text("a file of the user's")
    done = gradscope("scan", str(run), "--json", directory=tmp_path)
    assert (done.code, done.out) == (0, expected)
    assert "measurements are not kept" in done.err
