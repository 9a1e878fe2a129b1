"""RLlib checkpoints against what RLlib held when it saved them (tests/files/rllib/make.py)."""

from __future__ import annotations

import json
import pickle
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from samples_folders import FILES, copied

from gradscope.errors import UnreadableFile
from gradscope.read import FolderReader, folder_reader, open_file
from gradscope.records import Snapshot

if TYPE_CHECKING:
    from pathlib import Path

RLLIB = FILES / "rllib"


@pytest.fixture(scope="module")
def truth() -> Any:
    return np.load(RLLIB / "truth.npz")


@pytest.mark.parametrize(
    ("name", "step", "key", "algorithm"),
    [
        ("ppo", 128, "num_env_steps_sampled_lifetime", "PPO"),
        ("dqn", 1000, "num_env_steps_sampled_lifetime", "DQN"),
        ("sac", 100, "num_env_steps_sampled_lifetime", "SAC"),
        ("ppo_fresh", 0, "training_iteration", None),
        ("old", 64, "num_env_steps_sampled", "PPO"),
    ],
)
def test_weights_moments_step_and_algorithm(
    name: str, step: int, key: str, algorithm: str | None, truth: Any
) -> None:
    snapshot = open_file(RLLIB / name)
    assert (snapshot.step, snapshot.step_from, snapshot.algorithm) == (step, key, algorithm)
    assert snapshot.notes == ()
    weights = {each.split("/", 2)[2] for each in truth if each.startswith(f"{name}/weight/")}
    targets = {each for each in weights if each.startswith(("_target_", "target_"))}
    assert set(snapshot.layers) == weights - targets
    assert len(targets) == {"dqn": 6, "sac": 20}.get(name, 0)
    for layer in snapshot.layers.values():
        np.testing.assert_array_equal(layer.weight, truth[f"{name}/weight/{layer.name}"])
        if name == "ppo_fresh":
            assert layer.reasons["moments"] == "the optimizer has not stepped"
        else:
            np.testing.assert_array_equal(layer.moments["exp_avg"], truth[f"{name}/exp_avg/{layer.name}"])
            assert "lr" in layer.moment_settings


def test_the_number_in_the_folders_name_counts_checkpoints_and_contradicts_nothing(tmp_path: Path) -> None:
    shutil.copytree(RLLIB / "ppo", tmp_path / "checkpoint_000007")
    snapshot = open_file(tmp_path / "checkpoint_000007")
    assert (snapshot.step, snapshot.notes) == (128, ())


def test_modules_of_several_policies_are_told_apart(tmp_path: Path) -> None:
    folder = copied("rllib/ppo", tmp_path)
    modules = folder / "learner_group/learner/rl_module"
    shutil.copytree(modules / "default_policy", modules / "rival")
    layers = open_file(folder).layers
    assert len(layers) == 12
    assert layers["default_policy.pi.net.mlp.0.bias"].moments
    assert layers["rival.pi.net.mlp.0.bias"].reasons["moments"] == "the file holds no optimizer state"


def test_everything_below_belongs_to_the_checkpoint(tmp_path: Path) -> None:
    folder = copied("rllib/ppo", tmp_path)
    reader = folder_reader(folder)
    assert isinstance(reader, FolderReader)
    assert reader.is_whole
    assert {part.name for part in reader.parts(folder)} == {
        *("rllib_checkpoint.json", "algorithm_state.pkl", "class_and_ctor_args.pkl"),
        *("state.pkl", "module_state.pkl"),
    }


def test_msgpack_is_told_with_what_to_try(tmp_path: Path) -> None:
    folder = copied("rllib/ppo", tmp_path)
    (folder / "algorithm_state.pkl").rename(folder / "algorithm_state.msgpack")
    with pytest.raises(UnreadableFile, match=r"is saved as msgpack\. Save it with use_msgpack=False"):
        open_file(folder)


def test_a_checkpoint_of_an_environment_runner_is_no_algorithm(tmp_path: Path) -> None:
    (tmp_path / "runner").mkdir()
    (tmp_path / "runner/rllib_checkpoint.json").write_text(json.dumps({"type": "EnvRunner"}))
    with pytest.raises(UnreadableFile, match=r"lacks 'algorithm_state\.pkl'"):
        open_file(tmp_path / "runner")


def test_several_optimizers_of_the_old_api_are_not_called_none(tmp_path: Path) -> None:
    folder = copied("rllib/old", tmp_path)
    actor, critic = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    optimizers = [torch.optim.Adam(each.parameters()) for each in (actor, critic)]
    for each, optimizer in zip((actor, critic), optimizers, strict=True):
        each(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    state = {
        "weights": {
            f"{name}.weight": net.weight.detach().numpy() for name, net in (("a", actor), ("c", critic))
        },
        "_optimizer_variables": [as_numpy(each.state_dict()) for each in optimizers],
    }
    (folder / "policies/default_policy/policy_state.pkl").write_bytes(pickle.dumps(state))
    snapshot = open_file(folder)
    assert isinstance(snapshot, Snapshot)
    for layer in snapshot.layers.values():
        assert not layer.moments
        assert layer.reasons["moments"].endswith("there are 2 optimizers")


def as_numpy(value: Any) -> Any:
    """As RLlib's convert_to_numpy."""
    if isinstance(value, dict):
        return {key: as_numpy(each) for key, each in value.items()}
    return value.numpy() if isinstance(value, torch.Tensor) else value
