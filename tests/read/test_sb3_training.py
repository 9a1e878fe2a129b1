"""What a training needs for its next step, compared with what SB3 and torch load."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import stable_baselines3
import torch
from conftest import SB3_STEPS, train_sb3
from makers import sb3_ring
from stable_baselines3.common.save_util import load_from_pkl
from stable_baselines3.common.utils import ConstantSchedule, LinearSchedule

from gradscope.errors import UnreadableFile
from gradscope.read.sb3_training import sb3_training

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STEP = SB3_STEPS[-1]
ARRAYS = "observations next_observations actions rewards dones timeouts".split()


@pytest.mark.parametrize("algorithm", ["SAC", "TD3", "DDPG", "DQN", "PPO"])
def test_everything_train_reads(sb3_files: Callable[[str], Path], algorithm: str) -> None:
    path = sb3_files(algorithm) / f"rl_model_{STEP}_steps.zip"
    model = getattr(stable_baselines3, algorithm).load(path, device="cpu")
    found = sb3_training(path)
    assert found.algorithm == algorithm
    assert found.policy_class == f"{model.policy_class.__module__}.{model.policy_class.__name__}"
    assert found.observation_space == "gymnasium.spaces.box.Box"
    assert found.learning_rate == model.lr_schedule(model._current_progress_remaining)
    assert found.settings["gamma"] == model.gamma
    expected = model.policy.state_dict()
    assert list(found.weights) == list(expected)
    for name, array in found.weights.items():
        np.testing.assert_array_equal(array, expected[name].numpy())
    if algorithm != "PPO":
        assert found.last_original_observations is not None
        np.testing.assert_array_equal(found.last_original_observations[""], model._last_original_obs)
    if algorithm == "SAC":
        assert found.variables["log_ent_coef"].item() == model.log_ent_coef.item()


@pytest.mark.parametrize("algorithm", ["SAC", "DQN"])
def test_optimizers_are_those_torch_loads(sb3_files: Callable[[str], Path], algorithm: str) -> None:
    path = sb3_files(algorithm) / f"rl_model_{STEP}_steps.zip"
    found = sb3_training(path).optimizers
    with zipfile.ZipFile(path) as archive:
        files = [name for name in archive.namelist() if name.endswith("optimizer.pth")]
        assert len(found) == len(files)
        for name in files:
            saved = torch.load(io.BytesIO(archive.read(name)), weights_only=True)
            own = found[name.removesuffix("optimizer.pth").rstrip("._")]
            assert list(own.groups) == saved["param_groups"]
            assert {place: set(state) for place, state in own.state.items()} == {
                place: set(state) for place, state in saved["state"].items()
            }
            for place, state in saved["state"].items():
                for key, value in state.items():
                    np.testing.assert_array_equal(own.state[place][key], value.numpy())


@pytest.mark.parametrize(
    ("schedule", "is_known"),
    [
        (LinearSchedule(0.01, 0.001, 0.5), True),
        (LinearSchedule(0.01, 0.001, 1.0), True),
        (ConstantSchedule(0.02), True),
        (0.003, True),
        (lambda left: 0.01 * left, False),
    ],
)
def test_learning_rates(tmp_path: Path, schedule: Any, is_known: bool) -> None:
    model = train_sb3("TD3", tmp_path, learning_rate=schedule)
    model.learn(20, reset_num_timesteps=False)
    for progress in (0.7, 0.2):
        model._current_progress_remaining = progress
        model.save(tmp_path / "model.zip")
        expected = model.lr_schedule(progress) if is_known else None
        assert sb3_training(tmp_path / "model.zip").learning_rate == expected


def test_classes_among_the_policys_settings_are_named_only(tmp_path: Path) -> None:
    settings = {"net_arch": [4], "activation_fn": torch.nn.ELU}
    model = stable_baselines3.SAC("MlpPolicy", "Pendulum-v1", policy_kwargs=settings, buffer_size=10)
    model.save(tmp_path / "model.zip")
    found = sb3_training(tmp_path / "model.zip").policy_settings
    assert found == {
        "net_arch": [4],
        "activation_fn": "torch.nn.modules.activation.ELU",
        "use_sde": False,
    }


@pytest.mark.parametrize("algorithm", ["SAC", "DQN"])
@pytest.mark.parametrize("step", SB3_STEPS)
def test_the_ring_is_as_it_lies_in_the_file(
    sb3_files: Callable[[str], Path], algorithm: str, step: int
) -> None:
    path = sb3_files(algorithm) / f"rl_model_replay_buffer_{step}_steps.pkl"
    expected: Any = load_from_pkl(path)
    found = sb3_ring(path)
    assert (found.position, found.is_full, found.is_shared) == (expected.pos, expected.full, False)
    assert found.buffer_class == "stable_baselines3.common.buffers.ReplayBuffer"
    assert (found.num_steps, found.discount) == (1, None)
    for name in ARRAYS:
        array = getattr(found, name)
        array = array[""] if isinstance(array, dict) else array
        np.testing.assert_array_equal(array, getattr(expected, name))
        assert not array.flags.owndata


def test_a_shared_and_a_many_steps_ring(tmp_path: Path) -> None:
    shared = {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}}
    train_sb3("DQN", tmp_path / "shared", **shared)
    ring = sb3_ring(tmp_path / "shared" / f"rl_model_replay_buffer_{STEP}_steps.pkl")
    assert ring.is_shared
    assert ring.next_observations is None
    train_sb3("DQN", tmp_path / "steps", n_steps=3, gamma=0.9)
    ring = sb3_ring(tmp_path / "steps" / f"rl_model_replay_buffer_{STEP}_steps.pkl")
    assert (ring.num_steps, ring.discount) == (3, 0.9)
    assert ring.buffer_class == "stable_baselines3.common.buffers.NStepReplayBuffer"


class Bomb:
    """Touches a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (open, (str(self.marker), "w"))


def test_nothing_in_a_file_is_run(sb3_files: Callable[[str], Path], tmp_path: Path) -> None:
    import base64  # noqa: PLC0415 - here only

    marker = tmp_path / "marker"
    bomb = pickle.dumps(Bomb(marker))
    source = sb3_files("SAC") / f"rl_model_{STEP}_steps.zip"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(tmp_path / "model.zip", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "data":
                data = json.loads(content)
                blob = {":type:": "x", ":serialized:": base64.b64encode(bomb).decode()}
                data |= dict.fromkeys(
                    ("policy_class", "policy_kwargs", "learning_rate", "_last_original_obs"), blob
                )
                content = json.dumps(data).encode()
            new.writestr(name, content)
    found = sb3_training(tmp_path / "model.zip")
    assert found.policy_settings is None
    assert found.learning_rate is None
    assert found.last_original_observations is None
    (tmp_path / "ring.pkl").write_bytes(bomb)
    with pytest.raises(UnreadableFile):
        sb3_ring(tmp_path / "ring.pkl")
    assert not marker.exists()


@pytest.mark.parametrize("damage", [lambda _: b"", lambda b: b[: len(b) // 2], lambda b: bytes(len(b))])
def test_damaged_files_are_unreadable(
    sb3_files: Callable[[str], Path], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    folder = sb3_files("SAC")
    for name, reader in (
        (f"rl_model_{STEP}_steps.zip", sb3_training),
        (f"rl_model_replay_buffer_{STEP}_steps.pkl", sb3_ring),
    ):
        (tmp_path / name).write_bytes(damage((folder / name).read_bytes()))
        with pytest.raises(UnreadableFile):
            reader(tmp_path / name)


@pytest.mark.parametrize(
    "change", [{"pos": 10**6}, {"pos": -1}, {"full": 1}, {"actions": np.zeros((3, 1, 1))}]
)
def test_rings_whose_parts_do_not_fit(
    sb3_files: Callable[[str], Path], tmp_path: Path, change: dict[str, Any]
) -> None:
    buffer: Any = load_from_pkl(sb3_files("SAC") / f"rl_model_replay_buffer_{STEP}_steps.pkl")
    vars(buffer).update(change)
    with (tmp_path / "ring.pkl").open("wb") as file:
        pickle.dump(buffer, file)
    with pytest.raises(UnreadableFile):
        sb3_ring(tmp_path / "ring.pkl")
