"""The recorder's snapshots, written by the recorder itself and by hand."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from conftest import train_sb3
from safetensors import safe_open
from safetensors.torch import save_file

from gradscope.errors import UnreadableFile
from gradscope.read import open_file
from gradscope.records import SNAPSHOT_SCHEMA, Origin, Snapshot

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("cos", "sin", "speed")


@pytest.fixture(scope="module", params=["SAC", "PPO"])
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny real training with the recorder in it."""
    from gradscope.record import GradscopeCallback  # noqa: PLC0415  imports torch and SB3

    folder = tmp_path_factory.mktemp(f"recorded_{request.param}")
    model = train_sb3(request.param, folder)
    slices = {"position": "2:3"}
    callback = GradscopeCallback(
        32, str(folder), slices=slices, feature_names=NAMES, sequence_length=1, timeline_every=1
    )
    model.learn(96, callback=callback)
    return folder


def opened(path: Path) -> Snapshot:
    record = open_file(path)
    assert isinstance(record, Snapshot)
    return record


def test_a_real_recording(recorded: Path) -> None:
    paths = sorted(recorded.glob("*_gradscope_*_steps.safetensors"))
    assert paths
    for path in paths:
        snapshot = opened(path)
        with safe_open(path, "np") as file:
            document = json.loads(file.metadata()["gradscope"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        assert snapshot.format == "gradscope"
        assert (snapshot.step, snapshot.step_from) == (document["step"], "step")
        assert snapshot.algorithm == document["algorithm"]
        assert snapshot.batch_size == document["batch_size"]
        assert snapshot.num_batches == 1
        assert list(snapshot.layers) == [each["name"] for each in document["layers"]]
        for each in document["layers"]:
            layer = snapshot.layers[each["name"]]
            assert (layer.dtype, layer.module, layer.shape) == (
                each["dtype"],
                each["module"],
                tuple(each["shape"]),
            )
            assert layer.origin is (Origin.STORED if each["gradient"] else Origin.NONE)
            assert layer.baseline_zero_fraction == each["baseline_zero_fraction"]
            if each["gradient"]:
                np.testing.assert_array_equal(layer.gradient, tensors[f"gradient.{each['name']}"])
            else:
                assert layer.reasons["gradient"] == each["reason"]
        np.testing.assert_array_equal(snapshot.observations[""], tensors["batch.observations"])
        assert snapshot.observed is not None
        assert dict(snapshot.observed.slices) == {"position": ("2:3",)}
        assert snapshot.observed.feature_names == NAMES
        assert snapshot.observed.sequence_length == 1
        optimizers = document["optimizers"].values()
        norms = [each["norm_before_clip"] for each in optimizers]
        assert snapshot.clipping.norm_before_clip == pytest.approx(math.sqrt(sum(norm**2 for norm in norms)))
        factors = [each["clip_coefficient"] for each in optimizers if each["clip_coefficient"] is not None]
        assert snapshot.clipping.clip_coefficient == min(factors, default=None)
        assert ("clip_coefficient" in snapshot.clipping.reasons) == (not factors)


def test_a_recording_names_the_layers_of_its_checkpoint(recorded: Path) -> None:
    for path in recorded.glob("*_gradscope_*_steps.safetensors"):
        checkpoint = opened(recorded / path.name.replace("_gradscope", "").replace(".safetensors", ".zip"))
        assert set(opened(path).layers) == set(checkpoint.layers)


def by_hand(
    path: Path, *, text: str | None = None, tensors: dict[str, torch.Tensor] | None = None, **change: Any
) -> Path:
    layer = {"name": "w", "shape": [2], "dtype": "float32", "module": "Linear", "gradient": True}
    document = {"schema": SNAPSHOT_SCHEMA, "step": 6000, "algorithm": "DQN", "layers": [layer]} | change
    metadata = {"gradscope": json.dumps(document) if text is None else text}
    save_file({"gradient.w": torch.ones(2)} if tensors is None else tensors, path, metadata)
    return path


def optimizer(norm: float | None, factor: float | None, **more: Any) -> dict[str, Any]:
    return {"norm_before_clip": norm, "clip_coefficient": factor, "updates_after_save": 1} | more


def test_clipping_over_optimizers(tmp_path: Path) -> None:
    optimizers = {"a": optimizer(3.0, 0.5), "b": optimizer(4.0, 0.25), "c": optimizer(12.0, None)}
    clipping = opened(by_hand(tmp_path / "r.safetensors", optimizers=optimizers)).clipping
    assert (clipping.norm_before_clip, clipping.clip_coefficient) == (13.0, 0.25)
    assert clipping.reasons == {}


def test_one_unknown_norm_makes_the_whole_unknown(tmp_path: Path) -> None:
    reasons = {"norm_before_clip": "not finite", "clip_coefficient": "not finite"}
    optimizers = {"a": optimizer(3.0, None), "b": optimizer(None, None, reasons=reasons)}
    clipping = opened(by_hand(tmp_path / "r.safetensors", optimizers=optimizers)).clipping
    assert (clipping.norm_before_clip, clipping.clip_coefficient) == (None, None)
    assert clipping.reasons == reasons


def test_late_gradients_are_told(tmp_path: Path) -> None:
    optimizers = {"actor": optimizer(1.0, None, updates_after_save=2)}
    snapshot = opened(by_hand(tmp_path / "r.safetensors", optimizers=optimizers))
    assert snapshot.notes == ("the gradient of optimizer 'actor' is of weights one update after the save",)


def test_dict_observations_keep_their_keys(tmp_path: Path) -> None:
    tensors = {
        "gradient.w": torch.ones(2),
        "batch.observations.a": torch.ones(3, 2),
        "batch.observations.b.c": torch.zeros(3),
    }
    observations = opened(by_hand(tmp_path / "r.safetensors", tensors=tensors)).observations
    assert {key: value.shape for key, value in observations.items()} == {"a": (3, 2), "b.c": (3,)}


def test_a_layer_without_its_description_is_still_a_layer(tmp_path: Path) -> None:
    snapshot = opened(by_hand(tmp_path / "r.safetensors", layers=[]))
    assert snapshot.layers["w"].shape == (2,)


def test_missing_parts_have_reasons(tmp_path: Path) -> None:
    snapshot = opened(by_hand(tmp_path / "r.safetensors", tensors={"batch.observations": torch.ones(1)}))
    layer = snapshot.layers["w"]
    assert layer.gradient is None
    assert set(layer.reasons) == {"weight", "gradient", "baseline_zero_fraction"}
    assert set(snapshot.clipping.reasons) == {"norm_before_clip", "clip_coefficient"}
    assert (snapshot.batch_size, snapshot.num_batches) == (None, None)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"text": '{"schema": "gradscope/snapshot/1"'}, "without its description"),
        ({"text": '"gradscope/snapshot/1"'}, "schema none"),
        ({"schema": "gradscope/snapshot/2"}, "schema 'gradscope/snapshot/2'"),
        ({"layers": [{"name": "w", "shape": [3]}]}, "describes layer 'w' as"),
        ({"layers": [{"shape": [2]}]}, "without a name"),
        ({"layers": [{"name": "w", "shape": [2]}] * 2}, "one twice"),
        ({"layers": [{"name": "w", "shape": [-2]}]}, "no shape"),
    ],
)
def test_descriptions_that_do_not_fit(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    with pytest.raises(UnreadableFile, match=problem):
        open_file(by_hand(tmp_path / "r.safetensors", **change))


@pytest.mark.parametrize(
    "change",
    [
        {"optimizers": 3},
        {"optimizers": {"a": 3}},
        {"optimizers": {"a": {"norm_before_clip": "x", "reasons": 3}}},
        {"optimizers": {"a": {"norm_before_clip": 10**400, "updates_after_save": 10**30}}},
        {"reasons": [1]},
        {"layers": {"w": 1}},
        {"batch_size": -1, "num_batches": 1.5},
        {"slices": {"a": 3, "b": ["0:1", "x*"], "c": []}},
        {"feature_names": [1, 2], "sequence_length": "four"},
        {"algorithm": 3},
        {"step": None},
    ],
    ids=str,
)
def test_values_of_the_wrong_kind_count_as_unknown(tmp_path: Path, change: dict[str, Any]) -> None:
    snapshot = opened(by_hand(tmp_path / "r.safetensors", **change))
    assert len(list(snapshot.layers.values())) == 1
    assert snapshot.observed is not None
    assert set(snapshot.observed.slices) <= {"b"}
