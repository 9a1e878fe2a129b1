"""A stored rollout is read as it was written; a damaged or lying one is unreadable in one line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from gradscope.errors import UnreadableFile
from gradscope.read import open_file
from gradscope.record import GradscopeCallback
from gradscope.records import Rollout

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = ("values", "log_probs", "advantages", "returns", "episode_starts")
SETTINGS: dict[str, Any] = {
    "ent_coef": 0.0,
    "clip_range": 0.2,
    "action_space": {"kind": "Discrete", "sizes": [2]},
}
DOCUMENT: dict[str, Any] = {
    "schema": "gradscope/rollout/1",
    "algorithm": "PPO",
    "step": 7,
    "settings": SETTINGS,
}
DRAW = np.random.default_rng(0)


def arrays(**changes: Any) -> dict[str, Any]:
    found = {name: DRAW.normal(size=(4, 3)).astype(np.float32) for name in NUMBERS}
    found |= {"actions": np.ones((4, 3, 1), np.int64), "observations": np.zeros((4, 3, 5), np.float32)}
    return {name: each for name, each in (found | changes).items() if each is not None}


def written(path: Path, tensors: dict[str, Any], document: Any) -> Path:
    text = document if isinstance(document, str) else json.dumps(document)
    save_file(tensors, path, {"gradscope": text})
    return path


def opened(path: Path) -> Rollout:
    record = open_file(path)
    assert isinstance(record, Rollout)
    return record


def test_the_recorders_own_file(tmp_path: Path) -> None:
    env = make_vec_env("CartPole-v1", n_envs=2, seed=0)
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=8, n_epochs=1, device="cpu")
    model.learn(16, callback=GradscopeCallback(5, str(tmp_path), save_rollout=True))
    path = tmp_path / "rl_model_gradscope_rollout_10_steps.safetensors"
    found, stored = opened(path), load_file(path)
    assert (found.source, found.step, found.algorithm, found.notes) == (path, 10, "PPO", ())
    for name in ("actions", *NUMBERS):
        np.testing.assert_array_equal(getattr(found, name), stored[name])
    assert list(found.observations) == [""]
    np.testing.assert_array_equal(found.observations[""], stored["observations"])
    assert dict(found.lstm_states) == {}
    assert found.settings["clip_range"] == 0.2


def test_entries_of_a_dict_space_and_recurrent_states(tmp_path: Path) -> None:
    parts = {f"observations.{key}": np.full((4, 3, 2), place, np.uint8) for place, key in enumerate("ab.")}
    states = {
        f"lstm_states.{kind}_states_{part}": DRAW.normal(size=(4, 2, 3, 6)).astype(np.float32)
        for kind in ("hidden", "cell")
        for part in ("pi", "vf")
    }
    tensors = arrays(observations=None) | parts | states
    found = opened(written(tmp_path / "f.safetensors", tensors, DOCUMENT))
    assert {key: int(each.max()) for key, each in found.observations.items()} == {"a": 0, "b": 1, ".": 2}
    for name, array in found.lstm_states.items():
        np.testing.assert_array_equal(array, states[f"lstm_states.{name}"])
    assert len(found.lstm_states) == 4


def test_a_step_that_the_name_contradicts_is_noted(tmp_path: Path) -> None:
    found = opened(written(tmp_path / "rl_model_gradscope_rollout_9_steps.safetensors", arrays(), DOCUMENT))
    assert found.step == 7
    assert len(found.notes) == 1


FLAT = np.zeros((4, 3), np.float32)
HIDDEN = "lstm_states.hidden_states_pi"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"actions": None}, "without actions"),
        ({"values": None}, "without values"),
        ({"observations": None}, "without observations"),
        ({"actions": FLAT}, "actions of shape"),
        ({"actions": np.zeros((0, 3, 1), np.float32)}, "actions of shape"),
        ({"returns": np.zeros((3, 4), np.float32)}, "has returns of float32"),
        ({"log_probs": np.zeros((4, 3))}, "has log_probs of float64"),
        ({"advantages": np.zeros((4, 3, 1), np.float32)}, "has advantages of"),
        ({"observations": np.zeros((4, 2, 5), np.float32)}, "observations '' of shape"),
        ({"observations": np.zeros((4, 3, 0), np.float32)}, "observations '' of shape"),
        ({"observations": np.zeros(4, np.float32)}, "observations '' of shape"),
        ({HIDDEN: np.zeros((4, 1, 3, 6), np.float32)}, "has only the LSTM states hidden_states_pi"),
    ],
)
def test_arrays_that_do_not_fit(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = written(tmp_path / "f.safetensors", arrays(**changes), DOCUMENT)
    with pytest.raises(UnreadableFile, match=words) as caught:
        open_file(path)
    assert "\n" not in str(caught.value)


def test_recurrent_states_of_other_environments(tmp_path: Path) -> None:
    names = ("hidden_states_pi", "cell_states_pi", "hidden_states_vf", "cell_states_vf")
    states = {f"lstm_states.{name}": np.zeros((4, 1, 2, 6), np.float32) for name in names}
    with pytest.raises(UnreadableFile, match="beside actions of"):
        open_file(written(tmp_path / "f.safetensors", arrays(**states), DOCUMENT))


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 0


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({**DOCUMENT, "schema": "gradscope/rollout/2"}, "of schema 'gradscope/rollout/2'.*Update gradscope"),
        ({**DOCUMENT, "schema": ["gradscope/rollout/1"]}, "of schema none"),
        ({**DOCUMENT, "algorithm": None}, "does not say of which algorithm"),
        ({**DOCUMENT, "settings": {}}, "without its settings"),
        ({**DOCUMENT, "settings": [1]}, "without its settings"),
        ({**DOCUMENT, "settings": {"ent_coef": float("nan")}}, "no number: NaN"),
        ({**DOCUMENT, "settings": {"ent_coef": float("inf")}}, "no number: Infinity"),
        ({**DOCUMENT, "settings": {"a": [{"b": 10**400}]}}, "beyond any number"),
        ({**DOCUMENT, "settings": {"a": nested(50)}}, "nested too deep"),
        (
            '{"schema": "gradscope/rollout/1", "settings": {"a": 1e999}, "algorithm": "PPO"}',
            "beyond any number",
        ),
        ('{"schema": "gradscope/rollout/1", ' + "[" * 100_000, "without its description"),
        ('"gradscope/rollout/1"', "of schema none"),
    ],
)
def test_descriptions_that_lie(document: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=words) as caught:
        open_file(written(tmp_path / "f.safetensors", arrays(), document))
    assert "\n" not in str(caught.value)


def test_observations_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "f.safetensors", arrays(), DOCUMENT)
    found = opened(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UnreadableFile, match="changed while it was read"):
        found.observations[""]
