"""The callback changes nothing, leaves nothing behind, and says early what does not fit."""

from __future__ import annotations

import copy
import itertools
import pickle
import subprocess
import sys
import zipfile
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from record.worlds import (
    NAMES,
    NUM_BARS,
    POSITION,
    Attention,
    Market,
    hooks_left,
    optimizers,
    snapshot,
    timeline,
)
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, CheckpointCallback, EveryNTimesteps
from stable_baselines3.common.vec_env import DummyVecEnv

from gradscope.errors import GradscopeError, UsageError
from gradscope.record import GradscopeCallback

if TYPE_CHECKING:
    from pathlib import Path

OFF_POLICY = {"learning_starts": 20, "batch_size": 16, "buffer_size": 200}
ALGORITHMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "SAC": (SAC, OFF_POLICY),
    "TD3": (TD3, OFF_POLICY),
    "DQN": (DQN, OFF_POLICY | {"train_freq": 2}),
    "PPO": (PPO, {"n_steps": 32, "batch_size": 16, "n_epochs": 2}),
}


def fresh(name: str) -> Any:
    algorithm, options = ALGORITHMS[name]
    kwargs = {"features_extractor_class": Attention, "net_arch": [8]}
    env = Market(discrete=name in {"DQN", "PPO"})
    return algorithm("MlpPolicy", env, seed=5, device="cpu", policy_kwargs=kwargs, **options)


def tensors_in_zip(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found[prefix] = value.detach()
        elif isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}/{key}", inner)

    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if member.endswith(".pth"):
                walk(member, torch.load(BytesIO(archive.read(member)), weights_only=True))
    return found


def same_tensors(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_training_and_saved_files_are_bit_identical(name: str, tmp_path: Path) -> None:
    plain, watched = fresh(name), None
    has_buffer = name != "PPO"
    plain.learn(120, callback=CheckpointCallback(30, str(tmp_path / "plain"), save_replay_buffer=has_buffer))
    watched = fresh(name)
    watched.learn(
        120,
        callback=GradscopeCallback(30, str(tmp_path / "watched"), "rl_model", has_buffer, timeline_every=2),
    )
    assert same_tensors(plain.policy.state_dict(), watched.policy.state_dict())
    names = sorted(path.name for path in (tmp_path / "plain").iterdir())
    ours = sorted(path.name for path in (tmp_path / "watched").iterdir())
    assert [each for each in ours if "gradscope" not in each] == names
    for each in names:
        one, other = tmp_path / "plain" / each, tmp_path / "watched" / each
        if each.endswith(".zip"):
            assert tensors_in_zip(one)
            assert same_tensors(tensors_in_zip(one), tensors_in_zip(other))
        else:
            assert b"gradscope" not in other.read_bytes()
            buffers = [pickle.loads(path.read_bytes()) for path in (one, other)]
            assert np.array_equal(buffers[0].observations, buffers[1].observations)
            assert vars(buffers[0]).keys() == vars(buffers[1]).keys()


class InTheMiddle(BaseCallback):
    """Does at every step what users do while training."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def _on_step(self) -> bool:
        self.model.save(self.folder / "middle")
        copy.deepcopy(self.model.policy)
        pickle.dumps(self.model.policy.features_extractor)
        with zipfile.ZipFile(self.folder / "middle.zip") as archive:
            assert not any(b"gradscope" in archive.read(member) for member in archive.namelist())
        return True


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_models_can_be_saved_copied_and_loaded_at_any_moment(name: str, tmp_path: Path) -> None:
    model = fresh(name)
    attributes = set(vars(model))
    assert hooks_left(model) == 0
    callback = CallbackList(
        [GradscopeCallback(10, str(tmp_path / "run"), timeline_every=1), InTheMiddle(tmp_path)]
    )
    model.learn(48, callback=callback)
    assert hooks_left(model) == 0
    assert set(vars(model)) - attributes <= {"_logger", "_last_obs", "_last_original_obs"}
    loaded = type(model).load(tmp_path / "middle", env=Market(discrete=name in {"DQN", "PPO"}))
    loaded.learn(10)


def test_after_a_crash_learning_on_without_the_callback_or_with_another_is_left_alone(tmp_path: Path) -> None:
    class Crash(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == 40:
                raise RuntimeError
            return True

    model = fresh("SAC")
    recorder = GradscopeCallback(30, str(tmp_path), timeline_every=1)
    with pytest.raises(RuntimeError):
        model.learn(100, callback=CallbackList([recorder, Crash()]))
    busy = hooks_left(model)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    model.learn(60, reset_num_timesteps=False)
    num_optimizers = 3
    assert hooks_left(model) == num_optimizers < busy, "one silent step hook each"
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    again = tmp_path / "again"
    model.learn(60, callback=GradscopeCallback(30, str(again), timeline_every=1), reset_num_timesteps=False)
    assert len(timeline(again / "rl_model_gradscope_timeline.jsonl")[1]) == 60 * num_optimizers
    model.learn(60, callback=recorder, reset_num_timesteps=False)
    assert hooks_left(model) == 0


def test_learning_on_keeps_the_baseline_and_a_loaded_model_has_none(tmp_path: Path) -> None:
    model = fresh("DQN")
    callback = GradscopeCallback(30, str(tmp_path), timeline_every=2)
    model.learn(60, callback=callback)
    model.learn(60, callback=callback, reset_num_timesteps=False)
    first, last = (
        snapshot(tmp_path / f"rl_model_gradscope_{step}_steps.safetensors")[0] for step in (30, 120)
    )
    assert [each["baseline_zero_fraction"] for each in first["layers"]] == [
        each["baseline_zero_fraction"] for each in last["layers"]
    ]
    assert "baseline_zero_fraction" not in last["reasons"]
    loaded = DQN.load(tmp_path / "rl_model_120_steps", env=Market())
    loaded.learn(
        60, callback=GradscopeCallback(30, str(tmp_path), timeline_every=2), reset_num_timesteps=False
    )
    resumed, _ = snapshot(tmp_path / "rl_model_gradscope_150_steps.safetensors")
    assert {each["baseline_zero_fraction"] for each in resumed["layers"]} == {None}
    assert "training was resumed" in resumed["reasons"]["baseline_zero_fraction"]
    headers, rows = timeline(tmp_path / "rl_model_gradscope_timeline.jsonl")
    assert len(headers) == 3
    updates = [row["update"] for row in rows]
    # The checkpoint of step 120 is from before that step's update, 50: training does it again.
    assert updates == [*range(2, 51, 2), *range(50, updates[-1] + 1, 2)], "Adam's own count goes on"


def test_rows_of_all_optimizers_meet_at_the_same_updates(tmp_path: Path) -> None:
    for name, delay in (("SAC", 1), ("TD3", 2)):
        model = fresh(name)
        model.learn(150, callback=GradscopeCallback(1000, str(tmp_path / name), timeline_every=10))
        _, rows = timeline(tmp_path / name / "rl_model_gradscope_timeline.jsonl")
        by_optimizer = {
            each: [r["update"] for r in rows if r["optimizer"] == each] for each in optimizers(model)
        }
        assert set(map(tuple, by_optimizer.values())) == {tuple(range(10, 140, 10))}, delay


def test_a_late_actor_is_left_out_where_the_next_save_comes_first(tmp_path: Path) -> None:
    model = TD3("MlpPolicy", Market(discrete=False), policy_delay=40, seed=1, device="cpu", **OFF_POLICY)
    model.learn(70, callback=GradscopeCallback(10, str(tmp_path)))
    metadata, tensors = snapshot(tmp_path / "rl_model_gradscope_30_steps.safetensors")
    assert set(metadata["optimizers"]) == {"critic"}
    reasons = {each["name"]: each["reason"] for each in metadata["layers"]}
    assert reasons["actor.mu.0.weight"] == "actor has not stepped"
    assert not any(name.startswith("gradient.actor") for name in tensors)
    assert reasons["critic.qf0.0.weight"] is None


def test_saves_before_the_first_update_share_its_gradient_and_say_so(tmp_path: Path) -> None:
    fresh("DQN").learn(40, callback=GradscopeCallback(8, str(tmp_path)))
    files = [snapshot(tmp_path / f"rl_model_gradscope_{step}_steps.safetensors") for step in (8, 16, 24)]
    for metadata, _ in files[:2]:
        assert metadata["optimizers"]["policy"]["updates_after_save"] == 1
        assert metadata["reasons"]["gradient"] == "the first update after this save came at step 22"
    assert "gradient" not in files[2][0]["reasons"]
    assert same_tensors(files[0][1], files[1][1])
    assert not same_tensors(files[1][1], files[2][1])


def test_the_end_of_training_writes_what_is_there(tmp_path: Path) -> None:
    model = DQN("MlpPolicy", Market(), learning_starts=500, device="cpu")
    model.learn(30, callback=GradscopeCallback(30, str(tmp_path)))
    metadata, tensors = snapshot(tmp_path / "rl_model_gradscope_30_steps.safetensors")
    assert tensors == {}
    assert metadata["optimizers"] == {}
    assert {each["reason"] for each in metadata["layers"]} == {"policy has not stepped"}
    assert metadata["reasons"]["batch.observations"]


def test_it_works_inside_another_callback_and_with_several_environments(tmp_path: Path) -> None:
    env = DummyVecEnv([Market for _ in range(4)])
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=16, seed=1, device="cpu")
    inner = GradscopeCallback(1, str(tmp_path), timeline_every=2)
    model.learn(192, callback=EveryNTimesteps(64, inner))
    _, rows = timeline(tmp_path / "rl_model_gradscope_timeline.jsonl")
    assert [row["update"] for row in rows] == list(range(2, 121, 2))
    assert (tmp_path / "rl_model_gradscope_128_steps.safetensors").is_file()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"slices": {"position": "3:6"}}, "3:6"),
    ({"slices": {"position": "7:9"}, "sequence_length": 2}, "7:9"),
    ({"slices": {"position": "pnl_*"}, "feature_names": NAMES, "sequence_length": 2}, "pnl_*"),
    ({"slices": {"position": "position_*"}}, "position_*"),
    ({"slices": {"market": "50:60"}}, "50:60"),
    ({"slices": {"position": "key:account"}}, "key:account"),
    ({"slices": {"position": "0:2"}, "sequence_length": 3}, "3"),
    ({"slices": {"position": "0:2"}, "feature_names": NAMES}, "5 names"),
    ({"slices": {"position": ()}}, "position"),
]


@pytest.mark.parametrize(("options", "offender"), WRONG)
def test_wrong_slices_stop_before_anything_was_trained(
    options: dict[str, Any], offender: str, tmp_path: Path
) -> None:
    options = {"sequence_length": NUM_BARS} | options if "3:6" in str(options) else options
    model = fresh("SAC")
    weights = copy.deepcopy(model.policy.state_dict())
    callback = GradscopeCallback(10, str(tmp_path / "run"), **options)
    with pytest.raises(UsageError) as raised:
        model.learn(50, callback=callback)
    assert offender in str(raised.value)
    assert "\n" not in str(raised.value)
    assert model.num_timesteps == 0
    assert same_tensors(weights, model.policy.state_dict())
    assert not (tmp_path / "run").exists()
    assert hooks_left(model) == 0


@pytest.mark.parametrize("options", [{"timeline_every": 0}, {"zero_tolerance": -1.0}, {"sequence_length": 0}])
def test_wrong_options_are_refused_at_once(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        GradscopeCallback(10, str(tmp_path), **options)


def test_slices_and_names_are_written_as_given(tmp_path: Path) -> None:
    slices = {"position": "3:5", "market": ["ret", "vol"]}
    callback = GradscopeCallback(
        30, str(tmp_path), slices=slices, feature_names=NAMES, sequence_length=NUM_BARS, timeline_every=5
    )
    fresh("DQN").learn(60, callback=callback)
    metadata, _ = snapshot(tmp_path / "rl_model_gradscope_30_steps.safetensors")
    (header,), rows = timeline(tmp_path / "rl_model_gradscope_timeline.jsonl")
    for written in (metadata, header):
        assert written["slices"] == slices
        assert written["sequence_length"] == NUM_BARS
        assert written["feature_names"] == list(NAMES)
        assert written["zero_tolerance"] == 1e-8
        assert written["algorithm"] == "DQN"
    assert set(rows[0]) == {
        *(
            "step",
            "update",
            "optimizer",
            "num_zero",
            "num_exact_zero",
            "num_expected",
            "num_nonfinite",
            "norm",
        ),
        *("norm_before_clip", "clip_coefficient", "num_rows", "num_active", "num_long", "num_short"),
    }
    assert metadata["step"] == 30
    assert metadata["num_updates"] == 4
    assert metadata["batch_size"] == 16


def test_without_sb3_one_line_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['stable_baselines3'] = None\nfrom gradscope.record import GradscopeCallback"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    last = ran.stderr.strip().splitlines()[-1]
    assert ran.returncode == 1
    assert last.startswith(f"{GradscopeError.__module__}.GradscopeError: ")
    assert 'pip install "stable-baselines3"' in last


def test_the_folder_imports_without_sb3() -> None:
    script = "import sys, gradscope.record.recording; print('stable_baselines3' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_no_random_number_is_drawn(tmp_path: Path) -> None:
    states = []
    for callback in (
        None,
        GradscopeCallback(
            10,
            str(tmp_path),
            timeline_every=1,
            slices=POSITION,
            feature_names=NAMES,
            sequence_length=NUM_BARS,
        ),
    ):
        fresh("SAC").learn(60, callback=callback)
        states.append((torch.get_rng_state(), np.random.get_state()[1]))  # noqa: NPY002 - SB3 draws from it
    for one, other in itertools.pairwise(states):
        assert torch.equal(one[0], other[0])
        assert np.array_equal(one[1], other[1])


def test_a_new_callback_right_after_a_crash_meets_the_old_one_in_its_first_step(tmp_path: Path) -> None:
    class Crash(BaseCallback):
        def _on_step(self) -> bool:
            raise RuntimeError

    model = fresh("SAC")
    old = GradscopeCallback(30, str(tmp_path / "old"), timeline_every=1)
    with pytest.raises(RuntimeError):
        model.learn(100, callback=CallbackList([old, Crash()]))
    model.learn(60, callback=GradscopeCallback(30, str(tmp_path / "new"), timeline_every=1))
    assert len(timeline(tmp_path / "new" / "rl_model_gradscope_timeline.jsonl")[1]) == 40 * 3
    assert timeline(tmp_path / "old" / "rl_model_gradscope_timeline.jsonl")[1] == []
