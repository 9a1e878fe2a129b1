"""The child process: what it may import and use, and what its end means."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from samples_native import hdf5_file

from gradscope.errors import UnreadableFile
from gradscope.read import native, native_child, open_file


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return hdf5_file(tmp_path, None)


def stand_in(script: str, sample: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is said of a child that does this in place of reading."""
    child = sample.parent / "child.py"
    child.write_text(script)
    monkeypatch.setattr(native_child, "__file__", str(child))
    with pytest.raises(UnreadableFile) as caught:
        open_file(sample)
    return str(caught.value.reason)


def test_nothing_is_imported_from_the_working_directory(
    sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("h5py", "numpy", "json", "gradscope", "resource"):
        (sample.parent / f"{name}.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(sample.parent)
    monkeypatch.setenv("PYTHONPATH", str(sample.parent))
    monkeypatch.setattr(sys, "path", ["", str(sample.parent), *sys.path])
    found: Any = open_file(sample)
    assert found.num_rows == 6


def test_a_library_that_crashes(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = stand_in("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", sample, monkeypatch)
    assert said.startswith("crashed its HDF5 library (SIGSEGV)")


def test_a_library_that_never_ends(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "SECONDS", 1)
    said = stand_in("import time; time.sleep(60)", sample, monkeypatch)
    assert said.startswith("took its HDF5 library longer than 1 s")


def test_processor_time_is_limited() -> None:
    folder = str(Path(native_child.__file__).parent)
    code = f"import sys; sys.path.append({folder!r}); import native_child as c; c.limit(1 << 33, 1, 99)"
    loop = f"{code}\nwhile True: pass"
    done = subprocess.run([sys.executable, "-c", loop], check=False, timeout=60)
    assert -done.returncode in native._SIGNALS_OF_LIMITS


def test_memory_is_limited(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "MEMORY_BYTES", 60 << 20)
    with pytest.raises(UnreadableFile, match=r"more than 60 MiB of memory|cannot be read|crashed"):
        open_file(sample)


def test_an_answer_that_points_outside_is_damage(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {
        "name": "observations",
        "key": "",
        "dtype": "float32",
        "shape": [9],
        "strides": [1 << 40],
        "offset": 0,
    }
    answer = json.dumps({"arrays": [entry], "notes": [], "format": "hdf5"})
    script = (
        f"import os; t = {answer!r}.encode(); os.write(1, t + len(t).to_bytes(8, 'little') + b'gradscop')"
    )
    assert "damaged" in stand_in(script, sample, monkeypatch)


def test_an_answer_without_an_end(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "exit status 0" in stand_in("print('hello' * 1000)", sample, monkeypatch)


def test_nothing_is_left_in_the_temporary_folder(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = sample.parent / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    found: Any = open_file(sample)
    assert list(folder.iterdir()) == []
    assert found.num_rows == 6


def test_large_rows_are_mapped_until_they_are_used(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["observations"], file["actions"] = np.zeros((1 << 16, 20), np.float32), np.zeros(1 << 16)
    array: Any = open_file(tmp_path / "d.h5").observations[""]  # type: ignore[union-attr]
    while isinstance(array.base, np.ndarray):
        array = array.base
    assert type(array.base).__name__ in {"mmap", "memoryview"}


def test_what_the_disk_holds_justifies_memory(tmp_path: Path) -> None:
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 40)
    assert native.Limits.of((tmp_path / "sparse",)).rows < native.FREE_BYTES + (1 << 30)


def test_a_library_that_is_not_installed(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [each for each in sys.path if not (Path(each) / "h5py").exists()]
    numpy = sample.parent / "places"
    numpy.mkdir()
    for name in ("numpy", "numpy.libs"):
        found = next((Path(each) / name for each in sys.path if (Path(each) / name).exists()), None)
        if found is not None:
            (numpy / name).symlink_to(found)
    monkeypatch.setattr(sys, "path", [*places, str(numpy)])
    with pytest.raises(UnreadableFile, match=r"is read with h5py, which is not installed\. pip install h5py"):
        open_file(sample)


def test_help_imports_none_of_it() -> None:
    code = "import sys, gradscope.cli; print([m for m in ('h5py', 'pyarrow', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
