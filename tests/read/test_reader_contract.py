"""One contract for every reader, and what the file system can hold instead of a file."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pickle
import shutil
import stat
import threading
import time
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from format_samples import RECORDS, SAMPLES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradscope.errors import UnreadableFile
from gradscope.read import folder_reader, open_file, reader_of, readers
from gradscope.read.format_table import ROWS
from gradscope.read.formats import READERS
from gradscope.read.sniff import FORMATS
from gradscope.read.sniff_folder import FOLDERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOISE = np.random.default_rng(0).bytes(5000)
"""The same in every process: tests are told apart by it."""


@pytest.fixture(scope="session")
def samples(sb3_files: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One good file or folder by reader."""
    folder = tmp_path_factory.mktemp("samples")
    return {name: make(folder, sb3_files) for name, make in SAMPLES.items()}


def used(record: Any) -> None:
    """Read everything a record can give."""
    for layers in (getattr(record, "layers", {}), getattr(record, "observations", {})):
        for value in getattr(layers, "values", tuple)():
            assert value is not None


def test_readers_are_one_per_format() -> None:
    names = [reader.format for reader in readers()]
    assert sorted(names) == sorted(SAMPLES) == sorted(RECORDS) == sorted(READERS)
    assert len(names) == len(set(names))


def test_every_reader_is_in_the_table_of_formats() -> None:
    assert {row.reader for row in ROWS} == set(READERS)


@pytest.mark.parametrize("name", [*FORMATS, *FOLDERS])
def test_a_reader_accepts_its_own_sample_only(samples: dict[str, Path], name: str) -> None:
    assert [reader.format for reader in readers() if reader.accepts(samples[name])] == [name]
    chosen = folder_reader(samples[name]) or reader_of(samples[name])
    assert chosen is not None
    assert chosen.format == name
    record = chosen.read(samples[name])
    assert type(record).__name__ == RECORDS[name]
    used(record)


@pytest.mark.parametrize("name", FORMATS)
def test_the_name_of_a_file_decides_nothing(samples: dict[str, Path], name: str, tmp_path: Path) -> None:
    shutil.copy(samples[name], tmp_path / "checkpoint")
    assert type(open_file(tmp_path / "checkpoint")).__name__ == RECORDS[name]


@pytest.mark.parametrize("reader", readers(), ids=lambda reader: reader.format)
@pytest.mark.parametrize(
    "content", [b"", b"\0", NOISE[:3000], b"PK\x03\x04", b"\x80\x04", b"{}", b"{" * 5000, bytes(10**5)]
)
def test_readers_refuse_what_is_none_of_theirs(reader: Any, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    reader.accepts(path)
    with pytest.raises(UnreadableFile) as caught:
        reader.read(path)
    assert "\n" not in str(caught.value)
    assert caught.value.path == path


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99])
def test_truncated_files_are_unreadable_or_shorter(
    samples: dict[str, Path], name: str, share: float, tmp_path: Path
) -> None:
    content = samples[name].read_bytes()
    path = tmp_path / samples[name].name
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UnreadableFile):
        used(open_file(path))


@pytest.mark.parametrize(
    "suffix", [".zip", ".pt", ".pth", ".ckpt", ".pkl", ".safetensors", "_gradscope.jsonl"]
)
@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"hello world, this is text", NOISE[:5000]])
def test_a_known_suffix_with_other_bytes_is_reported(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    with pytest.raises(UnreadableFile):
        reader_of(path)


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "events.out.tfevents.1",
        "log.jsonl",
        "noext",
        "data.csv",
        "training_args.bin",
        "rng_state_0.pth",
    ],
)
@pytest.mark.parametrize("content", [b"", b"# Hello", NOISE[:100]])
def test_other_files_are_skipped(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert reader_of(tmp_path / name) is None
    with pytest.raises(UnreadableFile, match="no known format"):
        open_file(tmp_path / name)


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "docs.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(UnreadableFile, match=r"no known layout \(first member b'readme\.txt'\)"):
        reader_of(tmp_path / "docs.zip")


class Runs:
    """Unpickled by Python, it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("name", ["pickle", "vec-normalize", "torch", "sb3"])
def test_nothing_in_a_file_runs(name: str, samples: dict[str, Path], tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / f"file{samples[name].suffix}"
    if name == "torch":
        torch.save({"model": {"w": torch.ones(1)}, "x": Runs(marker)}, path)
    elif name == "sb3":
        blob = {
            ":type:": "x",
            ":serialized:": base64.b64encode(pickle.dumps(Runs(marker))).decode(),
        }
        with zipfile.ZipFile(samples[name]) as old, zipfile.ZipFile(path, "w") as new:
            for member in old.namelist():
                content = old.read(member)
                if member == "data":
                    content = json.dumps(
                        json.loads(content) | {"policy_class": blob, "lr_schedule": blob}
                    ).encode()
                new.writestr(member, content)
    elif name == "pickle":
        path.write_bytes(pickle.dumps({"obs": np.ones((3, 2)), "act": np.ones(3), "x": Runs(marker)}))
    else:
        value = pickle.loads(samples[name].read_bytes())
        vars(value).update({"venv": None, "class_attributes": None, "returns": None}, extra=Runs(marker))
        path.write_bytes(pickle.dumps(value))
    record = open_file(path)
    used(record)
    assert not marker.exists()
    if name != "sb3":
        assert any("mkdir" in note for note in record.notes)


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_never_raise_anything_else(
    name: str, data: st.DataObject, samples: dict[str, Path], tmp_path: Path
) -> None:
    content = bytearray(samples[name].read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        cut = data.draw(st.integers(0, len(content)))
        content = content[:cut] + content[cut + data.draw(st.integers(0, 8)) :]
    path = tmp_path / samples[name].name
    path.write_bytes(content)
    try:
        used(open_file(path))
    except UnreadableFile as error:
        assert "\n" not in str(error)  # noqa: PT017  either outcome is right


def test_a_folder_named_like_a_file(tmp_path: Path) -> None:
    (tmp_path / "model.zip").mkdir()
    with pytest.raises(UnreadableFile, match="is a folder, not a file"):
        open_file(tmp_path / "model.zip")
    assert reader_of(tmp_path) is None


@pytest.mark.parametrize("name", ["model.zip", "anything"])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnreadableFile, match="No such file"):
        open_file(tmp_path / name)


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.zip")
    outcome: list[object] = []

    def attempt() -> None:
        try:
            open_file(tmp_path / "model.zip")
        except UnreadableFile as error:
            outcome.append(error.reason)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(5)
    assert outcome == ["is a fifo, not a file. Name a file."]


def test_a_device_does_not_last_for_ever(tmp_path: Path) -> None:
    (tmp_path / "zero.pkl").symlink_to("/dev/zero")
    with pytest.raises(UnreadableFile, match="is a device"):
        open_file(tmp_path / "zero.pkl")


@pytest.mark.parametrize("name", ["gone.zip", "gone.txt"])
def test_a_link_that_leads_nowhere(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(tmp_path / "nothing")
    with pytest.raises(UnreadableFile, match="leads nowhere"):
        reader_of(tmp_path / name)


def test_links_in_a_loop(tmp_path: Path) -> None:
    (tmp_path / "a.zip").symlink_to(tmp_path / "b.zip")
    (tmp_path / "b.zip").symlink_to(tmp_path / "a.zip")
    with pytest.raises(UnreadableFile):
        reader_of(tmp_path / "a.zip")


def test_a_link_to_a_file_is_that_file(tmp_path: Path, samples: dict[str, Path]) -> None:
    (tmp_path / "latest.zip").symlink_to(samples["sb3"])
    used(open_file(tmp_path / "latest.zip"))


def test_a_file_that_may_not_be_read(tmp_path: Path, samples: dict[str, Path]) -> None:
    shutil.copy(samples["sb3"], tmp_path / "locked.zip")
    (tmp_path / "locked.zip").chmod(stat.S_IWUSR)
    user = os.geteuid()
    os.seteuid(user or 65534)  # root may read everything; nobody may not
    try:
        with pytest.raises(UnreadableFile, match="Permission denied"):
            reader_of(tmp_path / "locked.zip")
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("name", FORMATS)
def test_a_sparse_terabyte_takes_neither_time_nor_memory(
    name: str, samples: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / samples[name].name
    shutil.copy(samples[name], path)
    os.truncate(path, 1 << 40)
    started = time.perf_counter()
    with contextlib.suppress(UnreadableFile):
        used(open_file(path))
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("name", ["a\nb.zip", "\x1b[31m.zip", "\u202egpj.zip", "-rf.zip", "b\udcff.zip"])
def test_hostile_names_are_names(name: str, samples: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(samples["sb3"], tmp_path / name)
    used(open_file(tmp_path / name))


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile):
        open_file(tmp_path / "a\0b.zip")
    with pytest.raises(UnreadableFile):
        open_file(tmp_path / ("x" * 5000 + ".zip"))
    assert not readers()[0].accepts(tmp_path / "a\0b.zip")
