"""Files that fail, change or vanish while they are read: a row each, and the others are measured."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from checkpoints_made import saved

from gradscope import scan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
/* A disk with a bad block: reads of files called bad_* fail with EIO once OK_READS have gone well. */
static int fails(int handle) {
    static int done = 0;
    char link[64], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t size = readlink(link, name, sizeof name - 1);
    if (size < 0) return 0;
    name[size] = 0;
    return strstr(name, "/bad_") && done++ >= atoi(getenv("OK_READS"));
}
ssize_t read(int handle, void *buffer, size_t size) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    if (fails(handle)) { errno = EIO; return -1; }
    return real(handle, buffer, size);
}
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shim, compiled."""
    folder = tmp_path_factory.mktemp("shim")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler, or not Linux")
    (folder / "eio.c").write_text(SHIM)
    made = [compiler, "-shared", "-fPIC", "-o", str(folder / "eio.so"), str(folder / "eio.c"), "-ldl"]
    subprocess.run(made, check=True)
    return folder / "eio.so"


@pytest.mark.parametrize("ok_reads", [0, 1, 4, 12, 25])
def test_a_bad_block_is_one_row_wherever_it_lies(shim: Path, tmp_path: Path, ok_reads: int) -> None:
    for step in (1, 2):
        saved(tmp_path / "run" / f"model_{step}.pt", seed=step, step=step)
    saved(tmp_path / "run" / "bad_3.pt", step=3)
    environment = os.environ | {"LD_PRELOAD": str(shim), "OK_READS": str(ok_reads)}
    command = [sys.executable, "-m", "gradscope", "scan", "run"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "Could not be read (1)" in done.stdout
    assert "Input/output error" in done.stdout
    assert "2 snapshots" in done.stdout


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x" * 1000)


def _shrink(path: Path) -> None:
    os.truncate(path, 1000)


def _replace(path: Path) -> None:
    saved(path.with_suffix(".tmp"), seed=9, width=8).replace(path)


def _become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _become_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("change", [_grow, _shrink, _replace, os.unlink, _become_a_folder, _become_a_fifo])
@pytest.mark.parametrize("when", ["reading", "measuring"])
def test_a_file_that_changes_meanwhile_is_one_row(
    tmp_path: Path, change: Callable[[Path], None], when: str
) -> None:
    """Changed when the first file is looked at, or when all are open and the first is measured."""
    for step in (1, 2, 3):
        saved(tmp_path / f"model_{step}.pt", seed=step, step=step)
    undisturbed = scan(tmp_path)
    pending = [change]

    def disturb(what: str, done: int, total: int) -> None:
        if what == when and done == 1 and pending and total:
            pending.pop()(tmp_path / "model_2.pt")

    report = scan(tmp_path, progress=disturb)
    assert not pending
    kept = {each.source: each for each in report.snapshots}
    assert kept["model_1.pt"] == undisturbed.snapshots[0]
    assert kept["model_3.pt"].layers[0].zero_fraction == undisturbed.snapshots[2].layers[0].zero_fraction
    if when == "measuring":
        assert [each.source for each in report.unreadable] == ["model_2.pt"]
        assert "model_2.pt" not in kept
