"""d3rlpy's models and gradient logs against the gradients it held (tests/files/d3rlpy/make.py)."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from samples_folders import FILES, copied

from gradscope.errors import ForeignFile, UnreadableFile
from gradscope.read import open_file
from gradscope.records import Timeline

if TYPE_CHECKING:
    from pathlib import Path

D3RLPY = FILES / "d3rlpy"
OWNERS = {"policy": "actor", "q_funcs": "critic", "log_temp": "temp", "log_alpha": "alpha"}


def content(path: Path) -> Any:
    return torch.load(io.BytesIO(pickle.loads(path.read_bytes())["torch"]))


@pytest.mark.parametrize(
    ("name", "algorithm", "num_layers"),
    [
        ("sac/model_10.d3", "SAC", 15),
        ("cql/model_10.d3", "CQL", 16),
        ("dead/model_10.d3", "DQN", 4),
    ],
)
def test_weights_moments_step_and_algorithm(name: str, algorithm: str, num_layers: int) -> None:
    snapshot = open_file(D3RLPY / name)
    assert (snapshot.step, snapshot.step_from, snapshot.algorithm) == (10, "name", algorithm)
    assert snapshot.notes == ()
    assert len(snapshot.layers) == num_layers
    own = content(D3RLPY / name)
    for layer in snapshot.layers.values():
        network, _, key = layer.name.partition(".")
        np.testing.assert_array_equal(layer.weight, own[network][key].numpy())
        optimizer = own["optim" if "optim" in own else f"{OWNERS[network]}_optim"]["optim"]
        state = optimizer["state"][list(own[network]).index(key)]
        np.testing.assert_array_equal(layer.moments["exp_avg"], state["exp_avg"].numpy())
    assert any(each.startswith("targ_q_funcs.") for each in snapshot.state)
    assert not any(each.startswith("targ_") for each in snapshot.layers)


@pytest.mark.parametrize("name", ["sac", "dead"])
def test_norms_are_those_of_the_gradients_that_d3rlpy_held(name: str) -> None:
    truth = np.load(D3RLPY / "truth.npz")
    timeline = open_file(D3RLPY / name)
    assert isinstance(timeline, Timeline)
    assert timeline.step.tolist() == [5, 10]
    assert len(timeline.layers) == {"sac": 15, "dead": 4}[name]
    for layer in timeline.layers:
        for place, step in enumerate(layer.step):
            gradient = truth[f"{name}/{step}/{layer.name}"].astype(np.float64)
            assert layer.num_elements == gradient.size
            assert layer.norm[place] == pytest.approx(np.linalg.norm(gradient), rel=1e-5, abs=1e-12)
            num_zero = np.count_nonzero(gradient == 0)
            if num_zero == gradient.size:
                assert layer.num_zero[place] == layer.num_exact_zero[place] == num_zero
            else:
                assert np.isnan(layer.num_zero[place])


def test_a_layer_whose_whole_gradient_is_zero_is_counted() -> None:
    timeline = open_file(D3RLPY / "dead")
    assert isinstance(timeline, Timeline)
    zeros = {layer.name: layer.num_zero.tolist() for layer in timeline.layers}
    assert zeros["q_funcs.0._encoder._layers.0.weight"] == [12, 12]
    assert np.isnan(zeros["q_funcs.0._fc.bias"]).all()
    assert np.isnan([layer.num_expected for layer in timeline.layers]).all()
    dead = ("_encoder._layers.0.weight", "_encoder._layers.0.bias", "_fc.weight")
    assert timeline.notes[1] == "no gradient at all: " + ", ".join(
        f"q_funcs.0.{name} (2 of 2 logs)" for name in dead
    )


def test_logs_without_a_model_have_no_sizes(tmp_path: Path) -> None:
    folder = copied("d3rlpy/dead", tmp_path)
    (folder / "model_10.d3").write_bytes(b"not one")
    with pytest.raises(ForeignFile, match="parameters of unknown size"):
        open_file(folder)


@pytest.mark.parametrize("row", ["1,2", "a,b,c,d,e,f", "1,-5,0,0,0,0", "1,1e400,0,0,0,0", "1,5.5,0,0,0,0"])
def test_rows_that_cannot_be_read_are_counted(row: str, tmp_path: Path) -> None:
    folder = copied("d3rlpy/dead", tmp_path)
    with (folder / "q_funcs.0._fc.bias_grad.csv").open("a") as log:
        log.write(f"{row}\n")
    timeline = open_file(folder)
    assert timeline.notes[-1] == "q_funcs.0._fc.bias: 1 rows could not be read"


def test_infinite_and_missing_numbers_are_unknown(tmp_path: Path) -> None:
    folder = copied("d3rlpy/dead", tmp_path)
    with (folder / "q_funcs.0._fc.bias_grad.csv").open("a") as log:
        log.write("3,15,nan,nan,nan,nan\n4,20,-inf,inf,inf,nan\n5,25,-1e308,1e308,1e308,1e308\n")
    timeline = open_file(folder)
    assert isinstance(timeline, Timeline)
    layer = next(each for each in timeline.layers if each.name == "q_funcs.0._fc.bias")
    assert np.isnan(layer.norm[-3:]).tolist() == [True, True, True]
    assert np.isfinite(layer.norm[:2]).all()


def test_a_model_of_something_else(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"x": torch.ones(1000, 3)}, buffer)
    (tmp_path / "model_1.d3").write_bytes(pickle.dumps({"torch": buffer.getvalue(), "config": "{}"}))
    with pytest.raises(UnreadableFile, match="holds no networks"):
        open_file(tmp_path / "model_1.d3")
    (tmp_path / "model_2.d3").write_bytes(pickle.dumps({"torch": b"PK\3\4"}))
    with pytest.raises(UnreadableFile, match=r"is a zip without an end|outside"):
        open_file(tmp_path / "model_2.d3")


@pytest.mark.parametrize("config", ["[" * 10**6, "9" * 10**5, '{"config": {"type": 3}}', b"x", None])
def test_a_configuration_that_tells_no_algorithm(config: object, tmp_path: Path) -> None:
    value = pickle.loads((D3RLPY / "dead/model_10.d3").read_bytes())
    (tmp_path / "model_10.d3").write_bytes(pickle.dumps({**value, "config": config}))
    assert open_file(tmp_path / "model_10.d3").algorithm is None


@pytest.mark.parametrize("run", ["sac", "dead"])
def test_save_model_holds_the_same_as_save(run: str) -> None:
    whole: Any = open_file(D3RLPY / run / "model_10.d3")
    model: Any = open_file(D3RLPY / run / "model_10.pt")
    # The only network of a file needs no prefix.
    prefix = "" if run == "sac" else "q_funcs."
    assert {prefix + name for name in model.layers} == set(whole.layers)
    for name, layer in model.layers.items():
        np.testing.assert_array_equal(layer.weight, whole.layers[prefix + name].weight)
        assert layer.moments.keys() == whole.layers[prefix + name].moments.keys()
