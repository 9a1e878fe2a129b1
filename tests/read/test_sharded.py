"""Weights in several files with an index, as huggingface_hub writes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from samples_folders import sharded_folder, small_network

from gradscope.errors import UnreadableFile
from gradscope.read import FolderReader, folder_reader, open_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("is_safe", [True, False])
def test_all_tensors_are_found_in_their_shards(is_safe: bool, tmp_path: Path) -> None:
    folder = sharded_folder(tmp_path, is_safe=is_safe)
    snapshot = open_file(folder)
    assert (snapshot.step, snapshot.step_from, snapshot.format, snapshot.notes) == (7, "name", "sharded", ())
    own = small_network().state_dict()
    assert set(snapshot.layers) == set(snapshot.state) == set(own)
    for name, layer in snapshot.layers.items():
        np.testing.assert_array_equal(layer.weight, own[name].numpy())
    reader = folder_reader(folder)
    assert isinstance(reader, FolderReader)
    assert len(reader.parts(folder)) == len(list(folder.iterdir())) == 3


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = sharded_folder(tmp_path)
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(
        UnreadableFile, match=rf"lacks '{shard.name}', which model\.safetensors\.index\.json names"
    ):
        open_file(folder)


def test_a_tensor_that_its_shard_lacks_is_named(tmp_path: Path) -> None:
    folder = sharded_folder(tmp_path)
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["ghost"] = content["weight_map"]["0.bias"]
    index.write_text(json.dumps(content))
    with pytest.raises(UnreadableFile, match="lacks tensor 'ghost'"):
        open_file(folder)


def test_tensors_that_the_index_leaves_out_are_counted(tmp_path: Path) -> None:
    folder = sharded_folder(tmp_path)
    shard = min(folder.glob("*.safetensors"))
    save_file({**load_file(shard), "more": torch.ones(2)}, shard)
    snapshot = open_file(folder)
    assert "more" not in snapshot.layers
    assert snapshot.notes == ("1 tensors of the shards are not in model.safetensors.index.json and left out",)


def test_safetensors_before_torch_and_the_step_of_the_metadata(tmp_path: Path) -> None:
    folder = sharded_folder(tmp_path)
    (folder / "pytorch_model.bin.index.json").write_text("{}")
    index = folder / "model.safetensors.index.json"
    content: dict[str, Any] = json.loads(index.read_text())
    index.write_text(json.dumps({**content, "metadata": {"global_step": 7, "total_size": 1}}))
    snapshot = open_file(folder)
    assert (snapshot.step, snapshot.step_from) == (7, "global_step")


@pytest.mark.parametrize("content", [b"hello", b"PK\x03\x04" + bytes(100), b"\x80\x04}.", bytes(100)])
def test_a_shard_that_is_none_is_named(content: bytes, tmp_path: Path) -> None:
    folder = sharded_folder(tmp_path)
    shard = min(folder.glob("*.safetensors"))
    shard.write_bytes(content)
    with pytest.raises(UnreadableFile, match=shard.name):
        open_file(folder)
