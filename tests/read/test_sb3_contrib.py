"""sb3-contrib's checkpoints against the models that wrote them, and those of Stable-Baselines3 2.0.0."""

from __future__ import annotations

import base64
import json
import os
import pickle
import shutil
import zipfile
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
import sb3_contrib
import torch
from samples_folders import FILES

from gradscope import scan
from gradscope.read import open_file
from gradscope.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

OLD = FILES / "sb3_2_0"
OFF_POLICY = {"learning_starts": 8, "buffer_size": 40, "batch_size": 8}
ROLLOUT = {"n_steps": 16, "batch_size": 8}


class Masked(gymnasium.Wrapper):  # type: ignore[misc, type-arg]
    def action_masks(self) -> Any:
        return np.ones(2, bool)


@pytest.mark.parametrize(
    ("name", "policy", "world", "options"),
    [
        ("TQC", "MlpPolicy", "Pendulum-v1", OFF_POLICY),
        ("CrossQ", "MlpPolicy", "Pendulum-v1", OFF_POLICY),
        ("QRDQN", "MlpPolicy", "CartPole-v1", OFF_POLICY),
        ("TRPO", "MlpPolicy", "CartPole-v1", ROLLOUT),
        ("MaskablePPO", "MlpPolicy", "CartPole-v1", ROLLOUT),
        ("RecurrentPPO", "MlpLstmPolicy", "CartPole-v1", ROLLOUT),
        ("ARS", "MlpPolicy", "CartPole-v1", {"n_delta": 2}),
    ],
)
def test_contrib(name: str, policy: str, world: str, options: dict[str, Any], tmp_path: Path) -> None:
    env = gymnasium.make(world)
    own = Masked(env) if name == "MaskablePPO" else env
    settings = {"net_arch": [4]} | ({"lstm_hidden_size": 4} if name == "RecurrentPPO" else {})
    model = getattr(sb3_contrib, name)(policy, own, seed=0, device="cpu", policy_kwargs=settings, **options)
    model.learn(32)
    model.save(tmp_path / "model.zip")
    snapshot = open_file(tmp_path / "model.zip")
    assert (snapshot.algorithm, snapshot.step) == (name, model.num_timesteps)
    assert snapshot.notes == ()
    parameters = {key: each for key, each in model.policy.named_parameters() if "_target" not in key}
    assert set(snapshot.layers) - {"log_ent_coef"} <= set(parameters)
    states = {id(key): own for each in optimizers(model) for key, own in each.state.items()}
    num_told = 0
    for key, layer in snapshot.layers.items():
        parameter = model.log_ent_coef if key == "log_ent_coef" else parameters[key]
        np.testing.assert_array_equal(layer.weight, parameter.detach().numpy())
        if id(parameter) in states:
            np.testing.assert_array_equal(layer.moments["exp_avg"], states[id(parameter)]["exp_avg"].numpy())
            num_told += 1
        else:
            assert not layer.moments
            assert "moments" in layer.reasons
    assert num_told == len(states)


def optimizers(model: Any) -> list[Any]:
    parts = (model.policy, getattr(model, "actor", None), getattr(model, "critic", None))
    found = [getattr(part, "optimizer", None) for part in parts]
    return [each for each in (*found, getattr(model, "ent_coef_optimizer", None)) if each is not None]


@pytest.mark.parametrize(("name", "num_layers"), [("sac", 15), ("td3", 12), ("dqn", 4), ("ppo", 9)])
def test_2_0_0_opens_with_weights_step_moments_and_algorithm(name: str, num_layers: int) -> None:
    path = OLD / name / "rl_model_32_steps.zip"
    snapshot = open_file(path)
    assert (snapshot.step, snapshot.step_from) == (32, "num_timesteps")
    assert (snapshot.algorithm, snapshot.notes) == (name.upper(), ())
    assert len(snapshot.layers) == num_layers
    with zipfile.ZipFile(path) as archive, archive.open("policy.pth") as member:
        own = torch.load(member, weights_only=True)
    for key, layer in snapshot.layers.items():
        if key != "log_ent_coef":
            np.testing.assert_array_equal(layer.weight, own[key].numpy())
        assert {"exp_avg", "exp_avg_sq"} <= set(layer.moments)


def test_2_0_0_kept_the_target_network_in_dqns_optimizer() -> None:
    path = OLD / "dqn/rl_model_32_steps.zip"
    with zipfile.ZipFile(path) as archive, archive.open("policy.optimizer.pth") as member:
        optimizer = torch.load(member, weights_only=True)
    assert (len(optimizer["param_groups"][0]["params"]), len(optimizer["state"])) == (8, 4)
    layers = open_file(OLD / "dqn/rl_model_32_steps.zip").layers
    for number, layer in enumerate(layers.values()):
        np.testing.assert_array_equal(layer.moments["exp_avg"], optimizer["state"][number]["exp_avg"].numpy())


@pytest.mark.parametrize("name", ["sac", "td3", "dqn"])
def test_gradients_of_2_0_0_are_recomputed_with_its_buffer_and_normalizer(name: str) -> None:
    report = scan(OLD / name, settings=Settings(source="recomputed"))
    assert report.unreadable == ()
    (snapshot,) = report.snapshots
    assert snapshot.origin == "recomputed"
    assert snapshot.batch_size == 8
    assert all(layer.norm is not None and np.isfinite(layer.norm) for layer in snapshot.layers)
    assert report.replays[0].num_rows == 31


class Runs:
    """Unpickled by Python, it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_a_function_of_a_schedule_never_runs(tmp_path: Path) -> None:
    run, marker = tmp_path / "run", tmp_path / "marker"
    shutil.copytree(OLD / "dqn", run)
    path = run / "rl_model_32_steps.zip"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(members["data"])
    for name in ("lr_schedule", "exploration_schedule"):
        assert b"_make_function" in base64.b64decode(data[name][":serialized:"])
        data[name][":serialized:"] = base64.b64encode(pickle.dumps(Runs(marker))).decode()
    members["data"] = json.dumps(data).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    report = scan(run, settings=Settings(source="recomputed"))
    assert [each.origin for each in report.snapshots] == ["recomputed"]
    assert not marker.exists()
