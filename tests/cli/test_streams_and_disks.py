"""What the system refuses is one line: closed or full output, readers that are gone, locked folders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from makers import case_run

FULL = Path("/dev/full")
FULL_LINE = (
    "gradscope: reading or writing failed: No space left on device. "
    "Check the disk, and where standard output goes.\n"
)
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return case_run(folder)


def ended(command: str, directory: Path) -> tuple[int, str]:
    """Exit code and standard error of a command typed into a shell."""
    line = command.replace("gradscope", f"{sys.executable} -m gradscope")
    done = subprocess.run(
        ["/bin/bash", "-c", line], cwd=directory, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


@needs_full
@pytest.mark.parametrize("command", ["scan run", "scan run --json", "formats", "help limits", "--version"])
def test_output_that_takes_no_more_is_one_line(command: str, run: Path) -> None:
    code, told = ended(f"gradscope {command} > /dev/full", run.parent)
    assert code == 2
    assert told == FULL_LINE


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("gradscope scan run >&-", 0),
        ("gradscope scan run 2>&- >out", 0),
        ("gradscope scan nowhere 2>&-", 2),
        ("gradscope scan run --fail-on warn >&-", 1),
        pytest.param("gradscope scan nowhere 2>/dev/full", 2, marks=needs_full),
    ],
)
def test_closed_streams_leave_the_exit_code(command: str, code: int, run: Path) -> None:
    assert ended(command, run.parent)[0] == code


def test_a_reader_that_is_gone_is_not_a_limit_reached(run: Path) -> None:
    code, told = ended("gradscope scan run --json | true; exit ${PIPESTATUS[0]}", run.parent)
    assert (code, told) == (0, "")


UNPRIVILEGED = "setpriv --bounding-set=-all --inh-caps=-all " if os.getuid() == 0 else ""
"""Root reads all that is locked, unless it gives that up."""


@pytest.mark.parametrize(
    "command",
    [
        "scan locked/model.zip",
        "shift run --replay locked/replay_buffer.pkl",
        "report locked/results.json",
        "report run -o locked/results.json",
        "compare run locked/results.json",
        "scan locked",
    ],
)
def test_what_lies_in_a_locked_folder_is_one_line(command: str, run: Path) -> None:
    locked = run.parent / "locked"
    locked.mkdir(mode=0)
    code, told = ended(f"{UNPRIVILEGED}gradscope {command}", run.parent)
    locked.chmod(0o700)
    assert code == 2
    assert len(told.strip().splitlines()) == 1
    assert "locked" in told
    assert "ermission denied" in told or "not readable" in told


def test_a_remembered_scan_that_is_locked_is_not_called_damaged(run: Path) -> None:
    ended("gradscope scan run", run.parent)
    stored = run.parent / ".gradscope" / "last_scan.json"
    stored.chmod(0)
    code, told = ended(f"{UNPRIVILEGED}gradscope report", run.parent)
    assert code == 2
    assert "last_scan.json: cannot be read: Permission denied. Type: gradscope scan PATH" in told
