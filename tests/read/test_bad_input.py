"""Bad files of every reader as a user meets them, where a reader once said too little or the wrong thing."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from samples_folders import dcp_folder, sharded_folder, small_network
from samples_native import minari_dataset
from samples_torch import exported_file

from gradscope.errors import UnreadableFile
from gradscope.read import open_file

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("size", [123, 640, 896, 1152, 1408, 640 + 65536])
def test_a_header_may_have_any_length(size: int, tmp_path: Path) -> None:
    """The length is the file's first bytes: those of 640 are a pickle's, those of 123 an open brace."""
    own = {"weight": torch.arange(6.0).reshape(2, 3)}
    whole = save(own)
    length = int.from_bytes(whole[:8], "little")
    header, data = whole[8 : 8 + length], whole[8 + length :]
    path = tmp_path / "model.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + header.ljust(size) + data)
    record = open_file(path)
    assert record.format == "safetensors"
    np.testing.assert_array_equal(record.layers["weight"].weight, own["weight"].numpy())


def repacked(path: Path, method: int, lost: str = "") -> Path:
    """The zip with its members packed by ``method``, without those whose name ends with ``lost``."""
    target = path.with_name(f"repacked{path.suffix}")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", method) as new:
        for name in old.namelist():
            if not lost or not name.endswith(lost):
                new.writestr(name, old.read(name))
    return target


def test_a_compressed_torch_archive_is_called_compressed(tmp_path: Path) -> None:
    torch.save(small_network().state_dict(), tmp_path / "c.pt")
    with pytest.raises(UnreadableFile, match="packed anew, with compression"):
        open_file(repacked(tmp_path / "c.pt", zipfile.ZIP_DEFLATED))
    assert open_file(repacked(tmp_path / "c.pt", zipfile.ZIP_STORED)).layers


@pytest.mark.parametrize(
    ("method", "lost", "told"),
    [
        (zipfile.ZIP_DEFLATED, "", "lacks the uncompressed member"),
        (zipfile.ZIP_STORED, "_weights_config.json", "without the file that describes them"),
    ],
)
def test_an_exported_program_whose_weights_are_out_of_reach_is_damaged(
    method: int, lost: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(UnreadableFile, match=told) as caught:
        open_file(repacked(exported_file(tmp_path, None), method, lost))
    assert type(caught.value) is UnreadableFile


class Runs:
    """Unpickled by Python, it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("part", ["policy.pth", "policy.optimizer.pth"])
def test_code_in_any_part_of_an_sb3_zip_is_named_and_not_run(
    part: str, sb3_files: Callable[[str], Path], tmp_path: Path
) -> None:
    path, inner = tmp_path / "model.zip", tmp_path / "inner.pth"
    with (
        zipfile.ZipFile(sb3_files("DQN") / "rl_model_64_steps.zip") as old,
        zipfile.ZipFile(path, "w") as new,
    ):
        for name in old.namelist():
            content = old.read(name)
            if name == part:
                inner.write_bytes(content)
                torch.save({**torch.load(inner), "x": Runs(tmp_path / "marker")}, inner)
                content = inner.read_bytes()
            new.writestr(name, content)
    record = open_file(path)
    assert any("mkdir" in note for note in record.notes)
    assert not (tmp_path / "marker").exists()
    assert any(layer.moments for layer in record.layers.values())


@pytest.mark.parametrize(("make", "suffix"), [(sharded_folder, ".safetensors"), (dcp_folder, ".distcp")])
def test_a_link_to_itself_within_a_folder_is_told(
    make: Callable[[Path], Path], suffix: str, tmp_path: Path
) -> None:
    folder = make(tmp_path)
    part = next(each for each in folder.iterdir() if each.suffix == suffix)
    part.unlink()
    part.symlink_to(part)
    with pytest.raises(UnreadableFile, match=f"'{part.name}' is a link that leads to itself"):
        open_file(folder)


def test_shards_of_torchs_old_format_are_read(tmp_path: Path) -> None:
    folder = sharded_folder(tmp_path, is_safe=False)
    for shard in folder.glob("*.bin"):
        torch.save(torch.load(shard), shard, _use_new_zipfile_serialization=False)
        assert not zipfile.is_zipfile(shard)
    own = small_network().state_dict()
    found = open_file(folder).layers
    assert set(found) == set(own)
    for name, layer in found.items():
        np.testing.assert_array_equal(layer.weight, own[name].numpy())


def test_code_in_a_shard_of_torchs_old_format_is_named_and_not_run(tmp_path: Path) -> None:
    folder = sharded_folder(tmp_path, is_safe=False)
    shard = min(folder.glob("*.bin"))
    torch.save(
        {**torch.load(shard), "x": Runs(tmp_path / "marker")}, shard, _use_new_zipfile_serialization=False
    )
    record = open_file(folder)
    assert any("mkdir" in note for note in record.notes)
    assert not (tmp_path / "marker").exists()
    shard.write_bytes(shard.read_bytes() + pickle.dumps(1))
    with pytest.raises(UnreadableFile, match=f"{shard.name} holds .* bytes after its end"):
        open_file(folder)


@pytest.mark.parametrize("kind", ["arrow", "hdf5"])
def test_data_of_minari_stay_in_its_folder(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    minari_dataset(tmp_path, monkeypatch, kind)
    folder = tmp_path / "sample-v0" / "data"
    for name in ("metadata.json", "main_data.hdf5" if kind == "hdf5" else "1/part-0.arrow"):
        part = folder / name
        looped = "leads to itself|is missing|no folder of|lacks"
        for target, told in ((tmp_path / "outside", "leads out of the folder"), (part, looped)):
            shutil.move(part, tmp_path / "outside")
            part.symlink_to(target)
            with pytest.raises(UnreadableFile, match=told):
                open_file(folder)
            part.unlink()
            shutil.move(tmp_path / "outside", part)
        inside = folder / "moved"
        shutil.move(part, inside)
        part.symlink_to(inside)
        assert open_file(folder).num_rows
        part.unlink()
        shutil.move(inside, part)
    (folder / "metadata.json").unlink()
    (folder / "metadata.json").symlink_to(tmp_path / "nothing")
    with pytest.raises(UnreadableFile, match="leads"):
        open_file(folder)


@pytest.mark.parametrize("name", ["a\x1cb", "a\nb", "a\u202eb", "a\x1b[31mb", "\ud800"])
def test_what_a_file_says_of_itself_is_one_line_that_can_be_shown(name: str) -> None:
    error = UnreadableFile(Path("run.pt"), f"has no entry {name}")
    assert error.reason.isprintable()
    assert str(error).isprintable()
