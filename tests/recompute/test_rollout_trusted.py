"""PPO, A2C and RecurrentPPO with the user's own classes, after consent: the library's bits again."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from recompute.library import assert_equal
from recompute.rollout_library import OnPolicyCase, OnPolicyFiles, trained_on_policy
from recompute.user_agents import NAME, SOURCE, importable

from gradscope.read.sb3_blobs import sb3_blobs
from gradscope.recompute.results import Refusal
from gradscope.recompute.rollout_trusted import TrustedRollout
from gradscope.recompute.trusted.user_code import UserCode

if TYPE_CHECKING:
    from pathlib import Path

OWN = (
    SOURCE
    + '''

from stable_baselines3.common.policies import ActorCriticPolicy


class Doubting(ActorCriticPolicy):
    """Halves its values in evaluate_actions and everywhere else."""

    def _build(self, lr_schedule):
        self.doubt = nn.Parameter(torch.tensor(0.5))
        super()._build(lr_schedule)
        self.late = nn.Parameter(torch.tensor(0.5))

    def evaluate_actions(self, obs, actions):
        values, log_prob, entropy = super().evaluate_actions(obs, actions)
        return self.doubt * values + 0 * self.late, log_prob, entropy

    def forward(self, obs, deterministic=False):
        actions, values, log_prob = super().forward(obs, deterministic)
        return actions, self.doubt * values, log_prob

    def predict_values(self, obs):
        return self.doubt * super().predict_values(obs)


from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy


class Remembering(RecurrentActorCriticPolicy):
    """Only its name is new."""
'''
)
DICT = spaces.Dict({"market": spaces.Box(-3, 3, (4,), np.float32), "mode": spaces.Discrete(3)})


def cases(users: Any) -> dict[str, OnPolicyCase]:
    """With the user's classes from their imported module."""

    def case(name: str, algorithm: str = "PPO", **options: Any) -> OnPolicyCase:
        kwargs = {"net_arch": [8], "features_extractor_class": getattr(users, name)}
        return OnPolicyCase(algorithm=algorithm, policy_kwargs=kwargs | options.pop("more", {}), **options)

    lstm = {"lstm_hidden_size": 5}
    return {
        "extractor": case("Plain"),
        "dropout and batch norm": case("Noisy", num_environments=2, normalize={}),
        "buffers that move": case("Drifting", action_space=spaces.Discrete(3), options={"ent_coef": 0.1}),
        "attention, two extractors": case("Attending", more={"share_features_extractor": False}),
        "A2C": case("Noisy", "A2C", num_environments=2),
        "keyed": case("Keyed", policy="MultiInputPolicy", space=DICT),
        "RecurrentPPO": case("Plain", "RecurrentPPO", policy="MlpLstmPolicy", more=lstm, num_environments=2),
        "policy": OnPolicyCase(algorithm="PPO", policy=users.Doubting),
        "recurrent policy": OnPolicyCase(
            algorithm="RecurrentPPO", policy=users.Remembering, policy_kwargs={"net_arch": [8], **lstm}
        ),
        "activation": OnPolicyCase(
            algorithm="PPO", policy_kwargs={"net_arch": [8], "activation_fn": users.Sine}
        ),
    }


def consent(files: OnPolicyFiles, folder: Path, **options: Any) -> Any:
    return files.result(user_code=UserCode(blobs=sb3_blobs(files.zip), folder=folder, **options))


NAMES = type("Names", (), {"__getattr__": lambda *_: None})()


@pytest.mark.parametrize("name", cases(NAMES))
def test_every_tensor_equals_the_librarys(name: str, tmp_path: Path) -> None:
    with importable(tmp_path, OWN) as users:
        case = cases(users)[name]
        files = trained_on_policy(case, tmp_path / "run")
        size, number = (32, 1) if case.algorithm == "A2C" else (8, 5)
        expected = files.library_gradients(batches=number, batch_size=size)
    assert NAME not in sys.modules
    code = UserCode(blobs=sb3_blobs(files.zip), folder=tmp_path)
    found = files.result(batches=number, batch_size=size, user_code=code)
    assert isinstance(found, TrustedRollout), found
    assert (found.num_batches, found.batch_size, found.seed) == (number, size, 5)
    for ours, theirs in zip(found.batches(), expected, strict=True):
        theirs.pop("late", None)
        assert_equal(ours.gradients, theirs)
        assert tuple(ours.gradients) == tuple(theirs) == found.layers
    for fresh in found.fresh_batches():
        assert set(fresh.gradients) == set(found.layers)
    if name == "policy":
        assert found.layer_reasons == {"late": "no optimizer moves this parameter"}
    if name == "extractor":
        assert set(found.layer_reasons.values()) == {
            "frozen: requires_grad is False",
            "no gradient reached this parameter",
        }
    assert NAME not in sys.modules


def test_without_consent_nothing_is_imported(tmp_path: Path) -> None:
    with importable(tmp_path) as users:
        case = replace(cases_of_one(users), options={"ent_coef": 0.01})
        files = trained_on_policy(case, tmp_path / "run")
    found = files.result()
    assert isinstance(found, Refusal)
    assert "code of your own" in found.reason
    assert NAME not in sys.modules


def cases_of_one(users: Any) -> OnPolicyCase:
    kwargs = {"net_arch": [4], "features_extractor_class": users.Plain}
    return OnPolicyCase(algorithm="PPO", policy_kwargs=kwargs)


def test_what_will_be_imported_is_announced_and_failures_are_reasons(tmp_path: Path) -> None:
    with importable(tmp_path) as users:
        files = trained_on_policy(cases_of_one(users), tmp_path / "run")
    said: list[tuple[str, ...]] = []
    assert isinstance(consent(files, tmp_path, announce=said.append), TrustedRollout)
    assert len(said) == 1
    assert any(NAME in each for each in said[0])
    (tmp_path / f"{NAME}.py").unlink()
    gone = consent(files, tmp_path)
    assert isinstance(gone, Refusal)
    assert "not found" in gone.reason


def test_weights_of_another_run_are_told_apart(tmp_path: Path) -> None:
    with importable(tmp_path) as users:
        files, other = (
            trained_on_policy(
                replace(cases_of_one(users), options={"learning_rate": rate}), tmp_path / str(rate)
            )
            for rate in (0.1, 1e-3)
        )
    found = consent(replace(files, zip=other.zip), tmp_path)
    assert isinstance(found, Refusal)
    assert "collected by other weights" in found.reason


def test_the_librarys_own_policy_runs_no_code(tmp_path: Path) -> None:
    files = trained_on_policy(OnPolicyCase(algorithm="PPO", policy_kwargs={"net_arch": [4]}), tmp_path)
    said: list[tuple[str, ...]] = []
    found = consent(files, tmp_path, announce=said.append)
    assert not isinstance(found, TrustedRollout | Refusal)
    assert said == []


def test_the_process_is_left_as_it_was(tmp_path: Path) -> None:
    with importable(tmp_path) as users:
        files = trained_on_policy(
            replace(
                cases_of_one(users), policy_kwargs={"net_arch": [4], "features_extractor_class": users.Noisy}
            ),
            tmp_path / "run",
        )
    before = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), list(sys.path)  # noqa: NPY002
    found = consent(files, tmp_path)
    assert (len(list(found.batches())), len(list(found.fresh_batches()))) == (1, 8)
    after = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), list(sys.path)  # noqa: NPY002
    assert before == after
