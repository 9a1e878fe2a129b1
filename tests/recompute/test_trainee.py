"""Training on offline against the library's own train(): the same weights, to the last bit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from recompute.library import Case, loaded, trained
from stable_baselines3.common.utils import polyak_update, set_random_seed

from gradscope.recompute.batches import batch, draws

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
