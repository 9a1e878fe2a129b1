"""Hugging Face's Trainer: its own checkpoints against the model and optimizer it trained."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from samples_folders import trained_by_trainer

from gradscope.errors import UnreadableFile
from gradscope.read import FolderReader, folder_reader, open_file

if TYPE_CHECKING:
    from pathlib import Path

SHARED = "the optimizer numbers its parameters in groups, and several have this shape"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("trainer")
    return folder, trained_by_trainer(folder)


@pytest.fixture
def last(trained: tuple[Path, Any], tmp_path: Path) -> Path:
    """A copy of the last checkpoint, to be changed."""
    shutil.copytree(trained[0] / "checkpoint-20", tmp_path / "checkpoint-20")
    return tmp_path / "checkpoint-20"


def moments_by_name(trainer: Any) -> dict[str, Any]:
    """What the optimizer itself holds, by the name of the parameter object."""
    names = {parameter: name for name, parameter in trainer.model.named_parameters()}
    return {names[each]: own for each, own in trainer.optimizer.optimizer.state.items()}


def test_weights_step_and_moments(trained: tuple[Path, Any]) -> None:
    folder, trainer = trained
    snapshot = open_file(folder / "checkpoint-20")
    assert (snapshot.step, snapshot.step_from, snapshot.format) == (20, "global_step", "hf-trainer")
    own, moments = trainer.model.state_dict(), moments_by_name(trainer)
    assert set(snapshot.layers) == {name for name, _ in trainer.model.named_parameters()}
    told = {}
    for name, layer in snapshot.layers.items():
        np.testing.assert_array_equal(layer.weight, own[name].numpy())
        if layer.moments:
            told[name] = layer.shape
            np.testing.assert_array_equal(layer.moments["exp_avg"], moments[name]["exp_avg"].numpy())
        else:
            assert layer.reasons["moments"] == SHARED
    shapes = [tuple(each.shape) for each in own.values()]
    assert sorted(told.values()) == sorted(shape for shape in set(shapes) if shapes.count(shape) == 1)
    assert len(told) == 8


def test_the_logged_norm_is_the_one_before_clipping(trained: tuple[Path, Any]) -> None:
    folder, trainer = trained
    logged = {
        entry["step"]: entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry
    }
    snapshot = open_file(folder / "checkpoint-20")
    assert snapshot.clipping.norm_before_clip == logged[20]
    assert "training_args.bin" in snapshot.clipping.reasons["clip_coefficient"]
    low, high = sorted((logged[15], logged[20]))
    assert snapshot.notes == (f"gradient norm as logged since step 10: {low:.3g} to {high:.3g}",)


def test_the_models_order_names_every_moment(trained: tuple[Path, Any], last: Path) -> None:
    (last / "model.safetensors").unlink()
    own = trained[1].model.state_dict()
    torch.save(own, last / "pytorch_model.bin")
    snapshot = open_file(last)
    moments = moments_by_name(trained[1])
    assert len(snapshot.layers) == 25
    for name, layer in snapshot.layers.items():
        np.testing.assert_array_equal(layer.moments["exp_avg"], moments[name]["exp_avg"].numpy())
        decay = 0.0 if len(layer.shape) == 1 else trained[1].args.weight_decay
        assert layer.moment_settings["weight_decay"] == decay


def test_an_adapter_and_the_optimizer_of_it_alone(last: Path) -> None:
    (last / "model.safetensors").unlink()
    low, high = torch.nn.Parameter(torch.ones(2, 8)), torch.nn.Parameter(torch.ones(8, 2))
    save_file({"a.lora_A.weight": low.data, "a.lora_B.weight": high.data}, last / "adapter_model.safetensors")
    optimizer = torch.optim.AdamW([{"params": [low, high]}, {"params": []}])
    (low.sum() * 2 + high.sum()).backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), last / "optimizer.pt")
    layers = open_file(last).layers
    for name, own in (("a.lora_A.weight", low), ("a.lora_B.weight", high)):
        expected = optimizer.state[own]["exp_avg"].numpy()
        np.testing.assert_array_equal(layers[name].moments["exp_avg"], expected)


def test_another_models_optimizer_names_nothing(last: Path) -> None:
    tensors = load_file(last / "model.safetensors")
    tensors["classifier.weight"] = torch.ones(3, 9)
    save_file(tensors, last / "model.safetensors")
    layers = open_file(last).layers
    assert not any(layer.moments for layer in layers.values())
    assert "fits no order" in layers["classifier.weight"].reasons["moments"]


def test_parameters_without_state_are_not_guessed(last: Path) -> None:
    optimizer = torch.load(last / "optimizer.pt")
    del optimizer["state"][24]
    torch.save(optimizer, last / "optimizer.pt")
    assert not any(layer.moments for layer in open_file(last).layers.values())


@pytest.mark.parametrize(
    ("change", "step", "norm"),
    [
        ({"global_step": 20, "log_history": [{"step": 20, "grad_norm": float("nan")}]}, 20, None),
        ({"global_step": 20, "log_history": [{"step": 20, "grad_norm": "1"}, 3, None]}, 20, None),
        ({"global_step": 20, "log_history": [{"step": 20, "grad_norm": 0.0}]}, 20, 0.0),
        ({"global_step": -1, "log_history": {}}, 20, None),
        ({"global_step": 10**30}, 20, None),
        ({}, 20, None),
    ],
)
def test_states_of_every_kind(change: dict[str, Any], step: int, norm: float | None, last: Path) -> None:
    (last / "trainer_state.json").write_text(json.dumps(change))
    snapshot = open_file(last)
    assert (snapshot.step, snapshot.clipping.norm_before_clip) == (step, norm)
    assert ("norm_before_clip" in snapshot.clipping.reasons) == (norm is None)


def test_norms_of_zero_and_those_that_are_not_finite_are_counted(last: Path) -> None:
    norms = [0.0, 1.5, float("nan"), float("inf"), 0.25]
    history = [{"step": step, "grad_norm": norm} for step, norm in zip(range(16, 21), norms, strict=True)]
    state = {"global_step": 20, "save_steps": 5, "log_history": [{"step": 15, "grad_norm": 99.0}, *history]}
    (last / "trainer_state.json").write_text(json.dumps(state))
    assert open_file(last).notes == (
        "gradient norm as logged since step 15: 0 to 1.5, 1 times exactly 0, 2 times not finite",
    )


def test_pickles_beside_are_never_opened(last: Path) -> None:
    for name in ("training_args.bin", "rng_state.pth", "scheduler.pt"):
        (last / name).unlink()
        (last / name).mkdir()
    assert open_file(last).step == 20


def test_a_damaged_optimizer_is_told_by_its_name(last: Path) -> None:
    (last / "optimizer.pt").write_bytes((last / "optimizer.pt").read_bytes()[:5000])
    with pytest.raises(UnreadableFile, match=r"optimizer\.pt is a zip without an end"):
        open_file(last)


def test_files_of_the_folder_belong_to_it_and_folders_do_not(last: Path) -> None:
    (last / "runs").mkdir()
    (last / "runs" / "x").write_text("y")
    reader = folder_reader(last)
    assert isinstance(reader, FolderReader)
    assert not reader.is_whole
    names = {part.name for part in reader.parts(last)}
    assert {"config.json", "model.safetensors", "rng_state.pth", "training_args.bin"} < names
    assert "x" not in names
