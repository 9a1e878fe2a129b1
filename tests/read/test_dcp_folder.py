"""torch.distributed.checkpoint folders against what torch itself holds and loads."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from dcp_processes import written_by_two
from samples_folders import dcp_saved, small_network, stepped
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

from gradscope.errors import ForeignFile, UnreadableFile
from gradscope.read import open_file
from gradscope.read.stored_tensor import StoredTensor

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """What two processes wrote of a fully sharded model, and its whole tensors."""
    folder = tmp_path_factory.mktemp("two")
    return folder, written_by_two(folder)


def same(snapshot: Any, model: Any, moments: Any) -> None:
    assert list(snapshot.layers) == list(model)
    for name, layer in snapshot.layers.items():
        np.testing.assert_array_equal(layer.weight, model[name].detach().numpy())
        for key in ("exp_avg", "exp_avg_sq", "step"):
            np.testing.assert_array_equal(layer.moments[key], moments[name][key].numpy())


def test_parts_of_two_processes_are_put_together(two: tuple[Path, dict[str, Any]]) -> None:
    folder, whole = two
    assert len(list((folder / "step_30").glob("*.distcp"))) == 2
    snapshot = open_file(folder / "step_30")
    assert (snapshot.step, snapshot.step_from, snapshot.notes) == (30, "step", ())
    same(snapshot, whole["model"], whole["optim"]["state"])
    assert snapshot.layers["0.weight"].moment_settings["lr"] == 0.01
    assert snapshot.layers["0.weight"].moment_settings["weight_decay"] == 0.01


def test_what_one_process_did_not_copy_is_missed_by_name(
    two: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    shutil.copytree(two[0] / "step_30", tmp_path / "step_30")
    (tmp_path / "step_30" / "__1_0.distcp").unlink()
    with pytest.raises(UnreadableFile, match=r"lacks '__1_0\.distcp', which \.metadata names"):
        open_file(tmp_path / "step_30")


@pytest.mark.parametrize("is_flat", [False, True])
def test_optimizer_state_by_the_parameters_names(is_flat: bool, tmp_path: Path) -> None:
    network = small_network()
    optimizer = stepped(network, lr=0.02)
    model, state = get_state_dict(
        network, optimizer, options=StateDictOptions(flatten_optimizer_state_dict=is_flat)
    )
    snapshot = open_file(dcp_saved({"model": model, "optimizer": state}, tmp_path / "step_200"))
    assert (snapshot.step, snapshot.step_from) == (200, "name")
    names = {parameter: name for name, parameter in network.named_parameters()}
    same(snapshot, network.state_dict(), {names[each]: own for each, own in optimizer.state.items()})
    assert snapshot.layers["2.bias"].moment_settings["lr"] == 0.02


@pytest.mark.parametrize("above", ["", "app"])
def test_optimizer_state_by_number(above: str, tmp_path: Path) -> None:
    network = small_network()
    optimizer = stepped(network)
    content = {"model": network.state_dict(), "optim": optimizer.state_dict(), "global_step": 8}
    snapshot = open_file(dcp_saved({above: content} if above else content, tmp_path / "last"))
    assert (snapshot.step, snapshot.step_from) == (8, "global_step")
    names = {parameter: name for name, parameter in network.named_parameters()}
    same(snapshot, network.state_dict(), {names[each]: own for each, own in optimizer.state.items()})


def test_a_state_dict_alone_and_a_step_that_is_a_tensor(tmp_path: Path) -> None:
    content = {**small_network().state_dict(), "step": torch.tensor(12)}
    snapshot = open_file(dcp_saved(content, tmp_path / "weights"))
    assert (snapshot.step, snapshot.step_from) == (12, "step")
    assert list(snapshot.layers) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert snapshot.layers["0.weight"].reasons["moments"] == "the file holds no optimizer state"


def test_every_dtype_and_shape_is_what_torch_loads(tmp_path: Path) -> None:
    torch.manual_seed(1)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool)
    content = {str(kind)[6:]: torch.randn(3, 2).to(kind) for kind in kinds}
    content |= {"empty": torch.empty(0, 3), "scalar": torch.tensor(2.5), "turned": torch.randn(4, 3).T}
    content |= {"float8_e4m3fn": torch.randn(2, 2).to(torch.float8_e4m3fn)}
    snapshot = open_file(dcp_saved(dict(content), tmp_path / "x"))
    assert set(snapshot.state) == set(content)
    for name, tensor in content.items():
        found = snapshot.state[name]
        assert found.shape == tuple(tensor.shape)
        np.testing.assert_array_equal(found.astype(np.float64), tensor.double().numpy())


def test_a_layer_reads_its_own_slices_only(
    two: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    own = StoredTensor.array

    def watched(tensor: StoredTensor) -> Any:
        read.append(tensor.key)
        return own(tensor)

    snapshot = open_file(two[0] / "step_30")
    monkeypatch.setattr(StoredTensor, "array", watched)
    _ = snapshot.layers["2.bias"]
    moments = [f"optim.state.2.bias.{key}" for key in ("exp_avg", "exp_avg_sq", "step")]
    assert {key for key in read if "bias" in key or "weight" in key} == {"model.2.bias", *moments}


def test_a_save_that_was_not_finished(tmp_path: Path) -> None:
    folder = dcp_saved(small_network().state_dict(), tmp_path / "step_5")
    (folder / ".metadata").unlink()
    with pytest.raises(UnreadableFile, match=r"lacks \.metadata\. It is written last"):
        open_file(folder)


def test_an_optimizer_alone_is_nothing_to_measure(tmp_path: Path) -> None:
    folder = dcp_saved({"optimizer": stepped(small_network()).state_dict()}, tmp_path / "optimizer_0")
    with pytest.raises(ForeignFile, match="no weights, at most an optimizer's state"):
        open_file(folder)


def test_the_step_that_lightning_keeps_beside(tmp_path: Path) -> None:
    folder = dcp_saved({"state_dict": small_network().state_dict()}, tmp_path / "last.ckpt")
    torch.save({"epoch": 1, "global_step": 40, "pytorch-lightning_version": "2.6.6"}, folder / "meta.pt")
    snapshot = open_file(folder)
    assert (snapshot.step, snapshot.step_from) == (40, "global_step")
    assert next(iter(snapshot.layers)) == "0.weight"


def test_torch_itself_loads_the_same(tmp_path: Path) -> None:
    content = {"w": torch.randn(4, 3)}
    folder = dcp_saved(dict(content), tmp_path / "x")
    loaded = {"w": torch.zeros(4, 3)}
    dcp.load(loaded, checkpoint_id=folder, no_dist=True)
    np.testing.assert_array_equal(open_file(folder).layers["w"].weight, loaded["w"].numpy())
