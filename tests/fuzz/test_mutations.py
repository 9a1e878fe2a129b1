"""Real files of every format, changed in ways that keep checksums, lengths and opcodes right."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from random import Random
from typing import TYPE_CHECKING

import pytest
from format_samples import SAMPLES
from fuzz.folders import of_parts, packed, parts, unpacked
from fuzz.mutations import mutated
from fuzz.pickles import opcodes
from fuzz.targets import run, starts_a_child
from fuzz.zips import members_of, zip_of
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def samples(sb3_files: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One good input by reader."""
    folder = tmp_path_factory.mktemp("samples")
    made = {name: make(folder, sb3_files) for name, make in SAMPLES.items()}
    return {name: packed(path) if path.is_dir() else path.read_bytes() for name, path in made.items()}


@pytest.mark.parametrize("name", SAMPLES)
def test_changed_files_are_read_or_refused(name: str, samples: dict[str, bytes]) -> None:
    @settings(deadline=None, max_examples=4 if starts_a_child(name) else 40)
    @given(seed=st.integers(0, 1 << 32), times=st.integers(1, 4))
    def changed(seed: int, times: int) -> None:
        random, content = Random(seed), samples[name]  # noqa: S311
        for _ in range(times):
            content = mutated(content, random)
        run(name, content)

    changed()


def test_a_zip_put_together_again_is_one() -> None:
    members = {"a/data.pkl": b"x" * 100, "a/data/0": b"", "b": bytes(range(256))}
    with zipfile.ZipFile(io.BytesIO(zip_of(members))) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == members
    assert members_of(zip_of(members)) == members


@pytest.mark.parametrize("protocol", range(2, 6))
def test_opcodes_put_together_again_are_the_same_pickle(protocol: int) -> None:
    value = {"a": [1, 2.5, None, "x" * 300, b"y" * 300], "b": (2**70, {3, 4}, "x" * 300)}
    content = pickle.dumps(value, protocol)
    assert len(opcodes(content)) > 20
    assert pickle.loads(b"".join(opcodes(content))) == value


def test_a_packed_folder_comes_back(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c.json").write_text("{}")
    (tmp_path / "a" / ".metadata").write_bytes(b"\x80\x04N.")
    content = packed(tmp_path / "a")
    assert parts(content) == {".metadata": b"\x80\x04N.", "b/c.json": b"{}"}
    assert packed(unpacked(content, tmp_path)) == content


def test_a_packed_folder_does_not_leave_its_own(tmp_path: Path) -> None:
    names = ("../x", "/x", "a/../../x", "", ".", "a\0b", "b" * 300)
    unpacked(of_parts(dict.fromkeys(names, b"1")), tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} == {
        "input-folder",
        "input-folder/ab",
    }


def test_most_mutations_of_a_known_structure_keep_it() -> None:
    """Bytes that are flipped anywhere are stopped by the first checksum or length."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    stored = len(header).to_bytes(8, "little") + header + bytes(8)
    for content, is_whole in (
        (zip_of({"a": b"1" * 50, "b": pickle.dumps([1, 2])}), lambda each: bool(members_of(each))),
        (stored, lambda each: int.from_bytes(each[:8], "little") < len(each)),
    ):
        changed = [mutated(content, Random(seed)) for seed in range(200)]  # noqa: S311
        assert len(set(changed)) > 30
        assert sum(map(is_whole, changed)) > 140
