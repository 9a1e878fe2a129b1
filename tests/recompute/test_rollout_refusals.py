"""Where checkpoint and rollout leave a doubt there is a reason instead of a gradient."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from recompute.rollout_library import OnPolicyCase, trained_on_policy
from safetensors import safe_open
from safetensors.numpy import save_file
from stable_baselines3.common.torch_layers import FlattenExtractor

from gradscope.read.sb3_training import sb3_training
from gradscope.recompute.results import Refusal
from gradscope.recompute.rollout_gradients import recompute_rollout

if TYPE_CHECKING:
    from pathlib import Path

    from recompute.rollout_library import OnPolicyFiles


class OwnExtractor(FlattenExtractor):
    """The user's."""


PPO = OnPolicyCase(algorithm="PPO", action_space=spaces.Discrete(3), num_environments=2)
RECURRENT = OnPolicyCase(
    algorithm="RecurrentPPO", policy="MlpLstmPolicy", policy_kwargs={"net_arch": [4], "lstm_hidden_size": 3}
)


@pytest.fixture(scope="module")
def ppo(tmp_path_factory: pytest.TempPathFactory) -> OnPolicyFiles:
    return trained_on_policy(PPO, tmp_path_factory.mktemp("ppo"))


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> OnPolicyFiles:
    return trained_on_policy(RECURRENT, tmp_path_factory.mktemp("recurrent"))


def reason(files: OnPolicyFiles, **options: Any) -> str:
    found = files.result(**options)
    assert isinstance(found, Refusal)
    assert "\n" not in found.reason
    return found.reason


def changed(
    files: OnPolicyFiles, folder: Path, settings: Any = (), arrays: Any = (), **top: Any
) -> OnPolicyFiles:
    """The same rollout, lying."""
    with safe_open(files.rollout, "np") as file:
        document = json.loads(file.metadata()["gradscope"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    document |= top | {"settings": {**document["settings"], **dict(settings)}}
    tensors = {name: each for name, each in (tensors | dict(arrays)).items() if each is not None}
    path = folder / files.rollout.name
    save_file(tensors, path, {"gradscope": json.dumps(document)})
    return replace(files, rollout=path)


ROWS = np.zeros((16, 2), np.float32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"algorithm": "TRPO"}, "rollouts of TRPO are not recomputed, only PPO, A2C, RecurrentPPO"),
        ({"algorithm": "A2C"}, "the rollout is of A2C, the checkpoint of PPO"),
        ({"step": 80}, "num_timesteps is 80, not 40"),
        ({"settings": {"ent_coef": None}}, "no number ent_coef"),
        ({"settings": {"clip_range": "0.2"}}, "no number clip_range"),
        ({"settings": {"max_grad_norm": True}}, "no number max_grad_norm"),
        ({"settings": {"clip_range_vf": "nan"}}, "no number clip_range_vf"),
        ({"settings": {"normalize_advantage": 1}}, "does not say whether advantages were normalised"),
        ({"settings": {"use_sde": True}}, "gSDE"),
        ({"settings": {"action_space": None}}, "do not fit a space None"),
        ({"settings": {"action_space": {"kind": "Discrete", "sizes": [2]}}}, "lie outside of their space"),
        ({"settings": {"action_space": {"kind": "Discrete", "sizes": [5]}}}, "action_net"),
        ({"settings": {"action_space": {"kind": "Discrete", "sizes": [3, 3]}}}, "do not fit a space"),
        (
            {"settings": {"action_space": {"kind": "Sphere", "sizes": [3]}}},
            "a space Sphere are not recomputed",
        ),
        ({"settings": {"action_space": {"kind": "Box", "shape": [1]}}}, "log_std"),
        ({"arrays": {"values": ROWS + 3}}, "collected by other weights"),
        ({"arrays": {"values": ROWS * np.nan}}, "collected by other weights"),
        ({"arrays": {"observations": np.zeros((16, 2, 4), np.float32)}}, r"float32 \(4,\), the checkpoint's"),
        ({"arrays": {"observations": np.zeros((16, 2, 2, 3))}}, "observations are float64"),
        (
            {"arrays": {"observations": None, "observations.a": np.zeros((16, 2, 2, 3), np.float32)}},
            "have the keys",
        ),
        ({"arrays": {"actions": np.full((16, 2, 1), -1)}}, "lie outside of their space"),
    ],
)
def test_doubts_are_reasons(ppo: OnPolicyFiles, change: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=words):
        changed(ppo, tmp_path, **change).recomputed()
    reason(changed(ppo, tmp_path, **change))


def test_a_rollout_of_other_sizes(ppo: OnPolicyFiles, recurrent: OnPolicyFiles, tmp_path: Path) -> None:
    assert "is not this checkpoint's: n_steps is 32, not 16" in reason(
        replace(ppo, rollout=changed(recurrent, tmp_path, algorithm="PPO").rollout)
    )


def test_another_runs_weights(ppo: OnPolicyFiles, tmp_path: Path) -> None:
    other = trained_on_policy(replace(PPO, options={"gamma": 0.5, "learning_rate": 0.1}), tmp_path)
    assert "collected by other weights" in reason(replace(ppo, zip=other.zip))


def test_weights_of_another_device_are_a_note(ppo: OnPolicyFiles, tmp_path: Path) -> None:
    values = ppo.opened().values * np.float32(1.002)
    found = changed(ppo, tmp_path, arrays={"values": values}).recomputed()
    assert "another device" in found.reasons["rollout"]
    assert "rollout" not in ppo.recomputed().reasons


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 33}, "1 batches of 33 rows cannot be drawn from a rollout of 32"),
        ({"batch_size": 0}, "1 batches of 0 rows"),
        ({"batches": 0}, "0 batches of 8 rows"),
        ({"seed": -1}, "the seed must be between 0 and"),
        ({"seed": 2**32}, "the seed must be between 0 and"),
    ],
)
def test_batches_that_cannot_be_drawn(ppo: OnPolicyFiles, options: dict[str, Any], words: str) -> None:
    assert words in reason(ppo, **options)


def test_a2c_trains_on_everything(tmp_path: Path) -> None:
    files = trained_on_policy(OnPolicyCase(algorithm="A2C"), tmp_path)
    assert reason(files, batch_size=8) == "A2C trains on its whole rollout of 32 rows at once, not on 8"
    found = files.recomputed(batches=5, batch_size=None)
    assert (found.num_batches, found.batch_size, found.seed) == (1, 32, 5)
    assert "whole rollout of 32 rows" in found.reasons["batches"]


def test_the_runs_own_batch_size_is_the_default(ppo: OnPolicyFiles, tmp_path: Path) -> None:
    assert ppo.recomputed(batch_size=None).batch_size == 8
    assert ppo.recomputed(batch_size=None).reasons == {}
    larger = changed(ppo, tmp_path, settings={"batch_size": 1000})
    assert larger.recomputed(batch_size=None).batch_size == 32
    assert "the smaller batch of 2 rows" in ppo.recomputed(batch_size=6).reasons["batch_size"]


def test_a_policy_of_the_users_own(tmp_path: Path) -> None:
    kwargs = {"net_arch": [4], "features_extractor_class": OwnExtractor}
    files = trained_on_policy(replace(PPO, policy_kwargs=kwargs), tmp_path)
    assert "is code of your own" in reason(files)


@pytest.mark.parametrize("name", ["dropout", "bidirectional", "batch_first", "proj_size"])
def test_an_lstm_of_another_kind(recurrent: OnPolicyFiles, name: str, tmp_path: Path) -> None:
    lstm = {"dropout": 0, "bidirectional": False, "batch_first": False, "proj_size": 0} | {name: 1}
    assert "an LSTM with dropout" in reason(changed(recurrent, tmp_path, settings={"lstm": lstm}))


def test_lstm_states_that_are_missing(recurrent: OnPolicyFiles, tmp_path: Path) -> None:
    kinds = ("hidden_states_pi", "cell_states_pi", "hidden_states_vf", "cell_states_vf")
    without = {f"lstm_states.{kind}": None for kind in kinds}
    assert "LSTM" in reason(changed(recurrent, tmp_path, arrays=without))
    wide = {f"lstm_states.{kind}": np.zeros((32, 1, 1, 9), np.float32) for kind in kinds}
    assert "have (1, 9) layers and units, the LSTM (1, 3)" in reason(
        changed(recurrent, tmp_path, arrays=wide)
    )


def test_global_random_states_stay_as_they_are(ppo: OnPolicyFiles, recurrent: OnPolicyFiles) -> None:
    def states() -> Any:
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002

    before = states()
    for files in (ppo, recurrent):
        found = files.recomputed(batches=3)
        assert (len(list(found.batches())), len(list(found.fresh_batches()))) == (3, 9)
    assert states() == before


def test_the_library_is_not_imported(ppo: OnPolicyFiles) -> None:
    code = f"""
import sys
from pathlib import Path
from gradscope.read import open_file
from gradscope.read.sb3_training import sb3_training
from gradscope.recompute.rollout_gradients import recompute_rollout
found = recompute_rollout(sb3_training(Path({str(ppo.zip)!r})), open_file(Path({str(ppo.rollout)!r})),
                          batches=2, batch_size=None, seed=0)
assert (len(list(found.batches())), len(list(found.fresh_batches()))) == (2, 8)
assert not {{"stable_baselines3", "gymnasium", "torch._dynamo"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_files_can_be_read_again_and_again(ppo: OnPolicyFiles) -> None:
    training, rollout = sb3_training(ppo.zip), ppo.opened()
    one, two = (recompute_rollout(training, rollout, batches=2, batch_size=8, seed=1) for _ in range(2))
    assert not isinstance(one, Refusal)
    assert not isinstance(two, Refusal)
    for first, second in zip([*one.batches(), *one.batches()], [*two.batches(), *two.batches()], strict=True):
        assert all(first.gradients[name].tobytes() == second.gradients[name].tobytes() for name in one.layers)
