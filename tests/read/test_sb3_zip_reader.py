"""SB3 zips of real trainings, compared with what SB3 and torch load."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from conftest import SB3_STEPS, train_sb3

from gradscope.errors import UnreadableFile
from gradscope.read import open_file
from gradscope.read.sb3_algorithm import algorithm_of
from gradscope.records import Origin, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ALGORITHMS = ("SAC", "TD3", "DDPG", "DQN", "PPO", "A2C")
NUM_LAYERS = {"SAC": 21, "TD3": 18, "DDPG": 12, "DQN": 6, "PPO": 13, "A2C": 13}


def opened(path: Path) -> Snapshot:
    record = open_file(path)
    assert isinstance(record, Snapshot)
    return record


def loaded(path: Path, algorithm: str) -> Any:
    return getattr(stable_baselines3, algorithm).load(path, device="cpu")


def rewritten(source: Path, target: Path, change: Callable[[dict[str, bytes]], None], **options: Any) -> Path:
    with zipfile.ZipFile(source) as old:
        members = {name: old.read(name) for name in old.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w", **options) as new:
        for name, content in members.items():
            new.writestr(name, content)
    return target


@pytest.mark.parametrize("step", SB3_STEPS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_a_checkpoint_is(sb3_files: Callable[[str], Path], algorithm: str, step: int) -> None:
    snapshot = opened(sb3_files(algorithm) / f"rl_model_{step}_steps.zip")
    assert snapshot.format == "sb3"
    assert (snapshot.step, snapshot.step_from) == (step, "num_timesteps")
    assert snapshot.algorithm == algorithm
    assert len(snapshot.layers) == NUM_LAYERS[algorithm]
    assert snapshot.notes == ()
    assert set(snapshot.clipping.reasons) == {"clip_coefficient", "norm_before_clip"}
    expected = f"{algorithm} does not clip" if algorithm in {"SAC", "TD3", "DDPG"} else "an SB3 checkpoint"
    assert snapshot.clipping.reasons["clip_coefficient"].startswith(expected)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_weights_are_those_sb3_loads(sb3_files: Callable[[str], Path], algorithm: str) -> None:
    path = sb3_files(algorithm) / f"rl_model_{SB3_STEPS[-1]}_steps.zip"
    model = loaded(path, algorithm)
    expected = {name: p for name, p in model.policy.named_parameters() if "_target." not in name}
    if algorithm == "SAC":
        expected["log_ent_coef"] = model.log_ent_coef
    layers = opened(path).layers
    assert list(layers) == list(expected)
    for name, layer in layers.items():
        assert layer.shape == tuple(expected[name].shape)
        assert layer.dtype == "float32"
        assert layer.gradient is None
        assert layer.origin is Origin.NONE
        assert "gradient" in layer.reasons
        np.testing.assert_array_equal(layer.weight, expected[name].detach().numpy())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_moments_are_those_of_the_very_parameter(sb3_files: Callable[[str], Path], algorithm: str) -> None:
    path = sb3_files(algorithm) / f"rl_model_{SB3_STEPS[-1]}_steps.zip"
    model = loaded(path, algorithm)
    by_identity = {id(p): name for name, p in model.policy.named_parameters()}
    optimizers = (
        [model.policy.optimizer]
        if algorithm in {"DQN", "PPO", "A2C"}
        else [model.actor.optimizer, model.critic.optimizer]
    )
    if algorithm == "SAC":
        optimizers.append(model.ent_coef_optimizer)
        by_identity[id(model.ent_coef_optimizer.param_groups[0]["params"][0])] = "log_ent_coef"
    layers = opened(path).layers
    named = set()
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            name = by_identity[id(parameter)]
            named.add(name)
            moments = layers[name].moments
            assert set(moments) == {key for key, value in state.items() if isinstance(value, torch.Tensor)}
            for key, value in moments.items():
                np.testing.assert_array_equal(value, state[key].numpy())
    assert named == set(layers)


def test_an_optimizer_that_never_stepped_has_no_moments(tmp_path: Path) -> None:
    model = stable_baselines3.PPO("MlpPolicy", "CartPole-v1", device="cpu", policy_kwargs={"net_arch": [4]})
    model.save(tmp_path / "fresh.zip")
    snapshot = opened(tmp_path / "fresh.zip")
    assert snapshot.step == 0
    assert all(not layer.moments and "moments" in layer.reasons for layer in snapshot.layers.values())


def test_a_shared_features_extractor_is_listed_once(tmp_path: Path) -> None:
    space = gymnasium.spaces.Box(0, 255, (3, 36, 36), np.uint8)
    env = _Still(space, gymnasium.spaces.Discrete(2))
    model = stable_baselines3.PPO("CnnPolicy", env, n_steps=8, batch_size=8, n_epochs=1, device="cpu")
    model.learn(8)
    model.save(tmp_path / "cnn.zip")
    layers = opened(tmp_path / "cnn.zip").layers
    assert len(model.policy.state_dict()) == 28
    assert list(layers) == [name for name, _ in model.policy.named_parameters()]
    for number, parameter in enumerate(model.policy.parameters()):
        found = list(layers.values())[number]
        np.testing.assert_array_equal(found.weight, parameter.detach().numpy())
        state = model.policy.optimizer.state[parameter]
        np.testing.assert_array_equal(found.moments["exp_avg"], state["exp_avg"].numpy())


def test_sac_with_a_fixed_entropy_coefficient_has_no_such_layer(tmp_path: Path) -> None:
    model = train_sb3("SAC", tmp_path, ent_coef=0.1)
    assert model.policy is not None
    snapshot = opened(tmp_path / f"rl_model_{SB3_STEPS[0]}_steps.zip")
    assert "log_ent_coef" not in snapshot.layers
    assert snapshot.algorithm == "SAC"


def test_moments_whose_shapes_do_not_fit_are_not_claimed(
    sb3_files: Callable[[str], Path], tmp_path: Path
) -> None:
    def swap(members: dict[str, bytes]) -> None:
        state = torch.load(io.BytesIO(members["actor.optimizer.pth"]), weights_only=True)
        state["state"][0], state["state"][1] = state["state"][1], state["state"][0]
        buffer = io.BytesIO()
        torch.save(state, buffer)
        members["actor.optimizer.pth"] = buffer.getvalue()

    layers = opened(rewritten(sb3_files("SAC") / "rl_model_64_steps.zip", tmp_path / "a.zip", swap)).layers
    assert not any(layer.moments for name, layer in layers.items() if name.startswith("actor."))
    assert all(layer.moments for name, layer in layers.items() if name.startswith("critic."))


def test_a_name_that_contradicts_the_content_is_told(
    sb3_files: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copy(sb3_files("DQN") / "rl_model_64_steps.zip", tmp_path / "rl_model_9000_steps.zip")
    snapshot = opened(tmp_path / "rl_model_9000_steps.zip")
    assert snapshot.step == 64
    assert "9000" in snapshot.notes[0]


@pytest.mark.parametrize("value", ["-5", "1e30", "1" + "0" * 30, "null", '"64"', "[]", "true"])
def test_absurd_steps_leave_the_name_to_speak(
    sb3_files: Callable[[str], Path], tmp_path: Path, value: str
) -> None:
    def change(members: dict[str, bytes]) -> None:
        data = json.loads(members["data"])
        data["num_timesteps"] = "HERE"
        members["data"] = json.dumps(data).replace('"HERE"', value).encode()

    snapshot = opened(rewritten(sb3_files("DQN") / "rl_model_64_steps.zip", tmp_path / "ckpt_7.zip", change))
    assert (snapshot.step, snapshot.step_from) == (7, "name")
    assert "num_timesteps is no step" in snapshot.notes[0]


@pytest.mark.parametrize(
    ("member", "content", "problem"),
    [
        ("data", b"{", "no JSON"),
        ("data", b"[]", "no JSON object"),
        ("data", b"[" * 200_000, "no JSON"),
        ("data", b'{"a": ' + b"9" * 10_000 + b"}", "no JSON"),
        ("policy.pth", b"", "zip without an end"),
        ("policy.pth", None, "lacks"),
        ("data", None, "lacks"),
    ],
    ids=["json", "list", "deep", "digits", "empty", "no-policy", "no-data"],
)
def test_bad_members(
    sb3_files: Callable[[str], Path], tmp_path: Path, member: str, content: bytes | None, problem: str
) -> None:
    def change(members: dict[str, bytes]) -> None:
        del members[member]
        if content is not None:
            members[member] = content

    path = rewritten(sb3_files("DQN") / "rl_model_64_steps.zip", tmp_path / "bad.zip", change)
    with pytest.raises(UnreadableFile, match=problem):
        open_file(path)


def test_compressed_members_are_refused_unopened(sb3_files: Callable[[str], Path], tmp_path: Path) -> None:
    path = rewritten(
        sb3_files("DQN") / "rl_model_64_steps.zip",
        tmp_path / "z.zip",
        lambda _: None,
        compression=zipfile.ZIP_DEFLATED,
    )
    with pytest.raises(UnreadableFile, match="lacks the uncompressed member"):
        open_file(path)


def test_two_members_of_one_name_are_refused(sb3_files: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "twice.zip"
    shutil.copy(sb3_files("DQN") / "rl_model_64_steps.zip", path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("policy.pth", b"other")
    with pytest.raises(UnreadableFile, match=r"two members named 'policy\.pth'"):
        open_file(path)


def test_a_file_that_changes_after_opening_is_told(sb3_files: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "rl_model_64_steps.zip"
    shutil.copy(sb3_files("DQN") / "rl_model_64_steps.zip", path)
    snapshot = opened(path)
    shutil.copy(sb3_files("PPO") / "rl_model_64_steps.zip", path)
    with pytest.raises(UnreadableFile, match="changed while it was read"):
        list(snapshot.layers.values())


def test_reading_imports_no_torch(sb3_files: Callable[[str], Path]) -> None:
    code = """
import sys
from pathlib import Path
from gradscope.read import open_file
for path in sorted(Path(sys.argv[1]).iterdir()):
    record = open_file(path)
    [layer.weight for layer in getattr(record, "layers", {}).values()]
heavy = {"torch", "stable_baselines3", "scipy", "pandas", "safetensors", "ml_dtypes", "gymnasium"}
print(sorted(heavy & set(sys.modules)))
"""
    command = [sys.executable, "-c", code, str(sb3_files("SAC"))]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("data", "algorithm"),
    [
        ({"policy_class": {"__module__": "sb3_contrib.tqc.policies"}}, "TQC"),
        ({"policy_class": {"__module__": "my_policies"}, "target_entropy": -1.0}, "SAC"),
        ({"policy_class": {"__module__": "my_policies"}, "policy_delay": 2}, "TD3"),
        ({"policy_delay": 1, "policy_kwargs": {"n_critics": 1}}, "DDPG"),
        ({"clip_range": 0.2, "gae_lambda": 0.9}, "PPO"),
        ({"policy_class": {":serialized:": "gASV"}}, None),
        ({"policy_class": {":serialized:": "not base64!"}}, None),
        ({"policy_class": 3}, None),
        ({}, None),
    ],
)
def test_algorithm_of_settings(data: dict[str, object], algorithm: str | None) -> None:
    assert algorithm_of(data) == algorithm


def _Still(observations: Any, actions: Any) -> Any:  # noqa: N802  makes an environment
    class Still(gymnasium.Env):  # type: ignore[type-arg]
        observation_space, action_space = observations, actions

        def reset(self, **_: Any) -> Any:
            return observations.sample(), {}

        def step(self, _: Any) -> Any:
            return observations.sample(), 1.0, False, False, {}

    return Still()


@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize("algorithm", ["SAC", "TD3"])
def test_moments_with_an_extractor_shared_by_actor_and_critic(
    tmp_path: Path, algorithm: str, is_shared: bool
) -> None:
    space = gymnasium.spaces.Box(0, 255, (1, 36, 36), np.uint8)
    env = _Still(space, gymnasium.spaces.Box(-1, 1, (1,), np.float32))
    extractor = {"share_features_extractor": is_shared, "features_extractor_kwargs": {"features_dim": 4}}
    kwargs: dict[str, Any] = {"learning_starts": 2, "buffer_size": 10, "batch_size": 2, "device": "cpu"}
    model = getattr(stable_baselines3, algorithm)(
        "CnnPolicy", env, policy_kwargs={"net_arch": [4]} | extractor, **kwargs
    )
    model.learn(6)
    model.save(tmp_path / "m.zip")
    layers = opened(tmp_path / "m.zip").layers
    names = {id(p): name for name, p in model.policy.named_parameters() if "_target." not in name}
    assert set(layers) - {"log_ent_coef"} == set(names.values())
    for optimizer in (model.actor.optimizer, model.critic.optimizer):
        for parameter, state in optimizer.state.items():
            found = layers[names[id(parameter)]].moments["exp_avg"]
            np.testing.assert_array_equal(found, state["exp_avg"].numpy())
