"""What unpickling a checkpoint's policy would import or run, listed without doing it."""

from __future__ import annotations

import base64
import importlib
import json
import os
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import pytest
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor

from gradscope.errors import UnreadableFile
from gradscope.read.sb3_blobs import sb3_blobs

SAMPLES = Path(__file__).parents[2] / "sample_checkpoints"


def zipped(folder: Path, **entries: Any) -> Path:
    """A zip whose JSON holds these entries, pickled as SB3 does where they are bytes."""
    data = {
        name: {":type:": "x", ":serialized:": base64.b64encode(each).decode()}
        if isinstance(each, bytes)
        else each
        for name, each in entries.items()
    }
    path = folder / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", json.dumps(data))
        archive.writestr("policy.pth", b"")
    return path


def test_by_reference() -> None:
    before = set(sys.modules)
    found = sb3_blobs(SAMPLES / "collapse" / "rl_model_2000_steps.zip")
    assert found.imports == ("trading_agent.TradingExtractor",)
    assert set(found.pickles) == {"observation_space", "action_space", "policy_class", "policy_kwargs"}
    assert found.python == (3, 11)
    assert not found.carries_code
    assert "trading_agent" not in set(sys.modules) - before


def test_a_plain_policy_names_nothing_of_the_users() -> None:
    found = sb3_blobs(SAMPLES / "confounded" / "rl_model_2000_steps.zip")
    assert found.imports == ()
    assert found.plain == {"policy_kwargs": {"net_arch": [64, 64]}}


def test_pickles_are_the_files_own_bytes(tmp_path: Path) -> None:
    model = DQN("MlpPolicy", gym.make("CartPole-v1"), policy_kwargs={"net_arch": [4]}, buffer_size=10)
    model.save(tmp_path / "model.zip")
    found = sb3_blobs(tmp_path / "model.zip")
    assert cloudpickle.loads(found.pickles["action_space"]) == gym.spaces.Discrete(2)
    assert cloudpickle.loads(found.pickles["policy_class"]).__name__ == "DQNPolicy"
    assert found.imports == ()


def test_classes_and_functions_carried_by_value_and_what_they_import(tmp_path: Path) -> None:
    class Carried(BaseFeaturesExtractor):
        def __init__(self, space: Any) -> None:
            super().__init__(space, 2)
            self.folder = Path()

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows * zipfile.ZIP_STORED

    def activation() -> torch.nn.Module:
        return torch.nn.Tanh()

    content = cloudpickle.dumps({"features_extractor_class": Carried, "activation_fn": activation})
    found = sb3_blobs(zipped(tmp_path, policy_kwargs=content)).imports
    assert "Carried (carried by the file itself)" in found
    assert any(each.endswith("activation (carried by the file itself)") for each in found)
    assert "zipfile" in found
    assert sb3_blobs(tmp_path / "model.zip").carries_code
    assert sb3_blobs(tmp_path / "model.zip").python is None
    assert not any("forward" in each or "__init__" in each or "torch" in each for each in found)


class Exploit:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call = call, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("call", "name"), [(os.system, "posix.system"), (eval, "builtins.eval"), (exec, "builtins.exec")]
)
def test_calls_that_a_pickle_hides_are_named_and_not_run(call: Any, name: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    content = pickle.dumps(
        {"net_arch": Exploit(call, f"__import__('pathlib').Path({str(marker)!r}).touch()")}
    )
    assert sb3_blobs(zipped(tmp_path, policy_kwargs=content)).imports == (name,)
    assert not marker.exists()


def test_what_a_library_imports_itself_is_told(tmp_path: Path) -> None:
    """torch has ``os`` in it: a dotted name reaches it."""
    content = b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93\x8c\x04true\x85R."
    assert sb3_blobs(zipped(tmp_path, policy_kwargs=content)).imports == ("torch.os.system",)
    content = b"\x80\x04\x8c\x17cloudpickle.cloudpickle\x8c\x05loads\x93C\x02N.\x85R."
    assert sb3_blobs(zipped(tmp_path, policy_kwargs=content)).imports == ("cloudpickle.cloudpickle.loads",)


def test_a_function_that_is_called_at_once_is_told(tmp_path: Path) -> None:
    made = b"\x8c\x17cloudpickle.cloudpickle\x8c\x0e_make_function\x93(N}\x8c\x01fNNtR"
    content = b"\x80\x04" + made + b")R."
    assert sb3_blobs(zipped(tmp_path, policy_kwargs=content)).imports == (
        "a function (carried by the file itself)",
    )


PLAIN = {
    "DQN": ("stable_baselines3", "CartPole-v1", {}),
    "PPO": ("stable_baselines3", "CartPole-v1", {"activation_fn": torch.nn.ReLU, "ortho_init": False}),
    "SAC": ("stable_baselines3", "Pendulum-v1", {"optimizer_class": torch.optim.RMSprop}),
    "TD3": ("stable_baselines3", "Pendulum-v1", {"features_extractor_class": FlattenExtractor}),
    "TQC": ("sb3_contrib", "Pendulum-v1", {"activation_fn": torch.nn.ELU}),
    "QRDQN": ("sb3_contrib", "CartPole-v1", {"net_arch": [4]}),
}


@pytest.mark.parametrize("algorithm", PLAIN)
def test_what_is_the_libraries_own_is_not_told(algorithm: str, tmp_path: Path) -> None:
    library, env, kwargs = PLAIN[algorithm]
    maker = getattr(importlib.import_module(library), algorithm)
    maker("MlpPolicy", gym.make(env), policy_kwargs=dict(kwargs)).save(tmp_path / "model.zip")
    assert sb3_blobs(tmp_path / "model.zip").imports == ()


def test_names_are_fit_to_be_shown(tmp_path: Path) -> None:
    content = b"\x80\x04\x8c\x08evil\x1b[2J\x8c\x03\xe2\x80\xae\x93."
    (name,) = sb3_blobs(zipped(tmp_path, policy_class=content)).imports
    assert name == "evil�[2J.�"


@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"\x80\x04N.N.", b"\x80\x04" + b"(" * 20_000])
def test_broken_pickles_are_unreadable(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile):
        sb3_blobs(zipped(tmp_path, policy_class=content))


@pytest.mark.parametrize("data", ["[]", "nonsense", '{"policy_class": {":serialized:": "?"}}'])
def test_broken_settings_are_unreadable(data: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("data", data)
    with pytest.raises(UnreadableFile):
        sb3_blobs(tmp_path / "model.zip")
