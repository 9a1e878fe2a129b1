"""Training on offline against the library's own train(): the same weights, to the last bit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from makers import sb3_ring
from recompute.library import Case, loaded, trained
from recompute.user_agents import importable, trusted
from stable_baselines3.common.utils import polyak_update, set_random_seed

from gradscope.errors import UsageError
from gradscope.read.sb3_training import sb3_training
from gradscope.recompute import recompute_gradients
from gradscope.recompute.batches import batch, draws
from gradscope.recompute.rhythm import Rhythm

if TYPE_CHECKING:
    from pathlib import Path

    from gradscope.recompute.trainee import Trainee

NUM_UPDATES = 7
ENTROPY = {"ent_coef": "auto_0.3"}
CASES = [
    Case(algorithm="SAC"),
    Case(algorithm="SAC", options={"ent_coef": 0.2, "target_update_interval": 2}),
    Case(algorithm="TD3"),
    Case(algorithm="TD3", policy_kwargs={"net_arch": [8], "share_features_extractor": True}),
    Case(algorithm="DDPG"),
    Case(algorithm="TQC"),
    Case(algorithm="DQN"),
    Case(algorithm="QRDQN"),
    Case(algorithm="SAC", normalize={}, num_environments=2, options=ENTROPY),
    Case(
        algorithm="SAC",
        policy_kwargs={
            "net_arch": [8],
            "optimizer_class": torch.optim.AdamW,
            "optimizer_kwargs": {"eps": 1e-5},
        },
    ),
    Case(algorithm="DQN", policy_kwargs={"net_arch": [8], "optimizer_class": torch.optim.RMSprop}),
]


def updated(found: Any, seed: int) -> Trainee:
    trainee: Trainee = found.trainee()
    # The library counts from 0 in each train(); here one call does all.
    trainee.rhythm = replace(trainee.rhythm, gradient_steps=0)
    drawn = draws(seed)
    with trainee.session():
        for _ in range(NUM_UPDATES):
            trainee.update(batch(found.drawing, drawn.rows), drawn)
    return trainee


def assert_same_weights(trainee: Trainee, model: Any) -> None:
    expected = {name: each.detach().numpy() for name, each in model.policy.state_dict().items()}
    if getattr(model, "log_ent_coef", None) is not None:
        expected["log_ent_coef"] = model.log_ent_coef.detach().numpy()
    own = {name: each for name, each in trainee.parameters.items() if name != "ent_coef_tensor"}
    assert own.keys() <= expected.keys()
    for name, weight in own.items():
        assert np.array_equal(weight.detach().numpy(), expected[name]), name


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.algorithm}-{'-'.join(map(str, case.options))}"
)
def test_weights_after_updates_are_the_librarys(case: Case, tmp_path: Path) -> None:
    checkpoint = trained(case, tmp_path)[-1]
    model = loaded(case, checkpoint)
    before = {name: each.clone() for name, each in model.policy.state_dict().items()}
    found = checkpoint.recomputed()
    if "target_network" in found.reasons:
        name = "q_net" if case.algorithm == "DQN" else "quantile_net"
        nets = getattr(model, name), getattr(model, f"{name}_target")
        polyak_update(nets[0].parameters(), nets[1].parameters(), model.tau)
    trainee = updated(found, 5)
    set_random_seed(5)
    model.train(gradient_steps=NUM_UPDATES, batch_size=16)
    assert_same_weights(trainee, model)
    moved = [name for name, each in model.policy.state_dict().items() if not torch.equal(each, before[name])]
    assert moved


@pytest.mark.parametrize(
    ("algorithm", "extractor"), [("DQN", "Plain"), ("SAC", "Noisy"), ("TD3", "Noisy"), ("TQC", "Plain")]
)
def test_the_users_own_classes_train_on_as_in_the_library(
    algorithm: str, extractor: str, tmp_path: Path
) -> None:
    """Noisy has dropout and batch norm: its draws and its statistics are the library's too."""
    with importable(tmp_path) as users:
        case = Case(
            algorithm=algorithm,
            policy_kwargs={"net_arch": [8], "features_extractor_class": getattr(users, extractor)},
        )
        checkpoint = trained(case, tmp_path)[-1]
        model = loaded(case, checkpoint)
    found = trusted(checkpoint, tmp_path)
    if "target_network" in found.reasons:
        model._on_step()
    trainee = updated(found, 5)
    set_random_seed(5)
    model.train(gradient_steps=NUM_UPDATES, batch_size=16)
    assert_same_weights(trainee, model)
    statistics = {name: each for name, each in model.policy.state_dict().items() if "running_" in name}
    own = found._state.live.policy.state_dict()
    assert bool(statistics) == (extractor == "Noisy")
    # What the recomputation itself holds is as it was.
    again = trusted(checkpoint, tmp_path)._state.live.policy.state_dict()
    assert all(torch.equal(own[name], again[name]) for name in own)


def test_a_trainee_leaves_the_recomputation_as_it_was(tmp_path: Path) -> None:
    found = trained(Case(algorithm="SAC"), tmp_path)[-1].recomputed()
    before = {name: each.copy() for name, each in next(found.batches()).gradients.items()}
    one, other = updated(found, 5), updated(found, 5)
    for name, weight in one.parameters.items():
        assert torch.equal(weight, other.parameters[name]), name
    after = next(found.batches()).gradients
    assert all(np.array_equal(after[name], each) for name, each in before.items())


def test_an_optimizer_that_is_not_there_is_a_reason(tmp_path: Path) -> None:
    checkpoint = trained(Case(algorithm="DQN"), tmp_path)[-1]
    training = replace(sb3_training(checkpoint.zip), optimizers={})
    found = recompute_gradients(training, sb3_ring(checkpoint.ring), None, batches=1, batch_size=16, seed=0)
    with pytest.raises(UsageError, match="holds no optimizer of the policy"):
        found.trainee()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("algorithm", "options", "moved"),
    [
        ("DQN", {"target_interval": 10}, {4: 1, 9: 1}),
        ("DQN", {"target_interval": 1}, dict.fromkeys(range(10), 2)),
        ("TD3", {"policy_delay": 3}, {2: 1, 5: 1, 8: 1}),
        ("SAC", {"target_interval": 2, "gradient_steps": 3}, dict.fromkeys((0, 2, 3, 5, 6, 8, 9), 1)),
        ("PPO", {}, {}),
    ],
)
def test_targets_move_when_the_library_moves_them(
    algorithm: str, options: dict[str, int], moved: dict[int, int]
) -> None:
    """Two calls of the environments an update; SAC's interval counts within a train() of three updates."""
    rhythm = Rhythm(algorithm=algorithm, tau=0.1, **options)
    found = {at: rhythm.num_target_moves(at + 1, at, (2 * at, 2 * at + 2)) for at in range(10)}
    assert {at: number for at, number in found.items() if number} == moved


def test_every_soft_update_between_two_gradient_steps_is_done(tmp_path: Path) -> None:
    """Three calls of the environments for each update, and the target follows at each call."""
    case = Case(algorithm="DQN", options={"tau": 0.05, "target_update_interval": 1})
    checkpoint = trained(case, tmp_path)[-1]
    model, found = loaded(case, checkpoint), checkpoint.recomputed()
    assert "target_network" in found.reasons
    model._on_step()
    trainee, drawn = found.trainee(), draws(5)
    set_random_seed(5)
    for _ in range(4):
        for _ in range(3):
            model._on_step()
        calls = trainee.num_calls + 3
        model.train(gradient_steps=1, batch_size=16)
        trainee.update(batch(found.drawing, drawn.rows), drawn, num_calls=calls)
    assert_same_weights(trainee, model)
