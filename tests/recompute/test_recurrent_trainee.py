"""RecurrentPPO trained on from a stored rollout: the weights and states that the library itself leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from recompute.rollout_library import OnPolicyCase, OnPolicyFiles, trained_on_policy
from recompute.test_rollout_trainee import assert_same, library, trained_on
from recompute.user_agents import importable

from gradscope.read.sb3_blobs import sb3_blobs
from gradscope.read.sb3_training import sb3_training
from gradscope.recompute.batches import draws
from gradscope.recompute.recurrent_batches import batch_of_sequences
from gradscope.recompute.rollout_batches import batch_of_rows
from gradscope.recompute.rollout_gradients import recompute_rollout
from gradscope.recompute.rollout_trusted import TrustedRollout
from gradscope.recompute.trusted.user_code import UserCode
from gradscope.trial.arms import Arm
from gradscope.trial.inputs import InputModule
from gradscope.trial.rollouts import RolloutFeed

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {"net_arch": [8], "lstm_hidden_size": 5}
ENTRIES = spaces.Dict({"a": spaces.Box(-1, 1, (3,), np.float32), "b": spaces.Discrete(4)})


def recurrent(**changes: Any) -> OnPolicyCase:
    known: dict[str, Any] = {"policy": "MlpLstmPolicy", "policy_kwargs": SMALL}
    return OnPolicyCase(algorithm="RecurrentPPO", **(known | changes))


CASES = {
    "plain": recurrent(),
    "discrete, entropy": recurrent(action_space=spaces.Discrete(3), options={"ent_coef": 0.01}),
    "environments, VecNormalize, clipped values": recurrent(
        num_environments=2, normalize={}, options={"clip_range_vf": 0.1}
    ),
    "batches of 12": recurrent(num_environments=2, options={"batch_size": 12}),
    "the whole rollout": recurrent(options={"batch_size": 32}),
    "one LSTM": recurrent(policy_kwargs={**SMALL, "shared_lstm": True, "enable_critic_lstm": False}),
    "no critic LSTM": recurrent(policy_kwargs={**SMALL, "enable_critic_lstm": False}),
    "two layers": recurrent(policy_kwargs={**SMALL, "n_lstm_layers": 2}),
    "Dict": recurrent(policy="MultiInputLstmPolicy", space=ENTRIES),
}


@pytest.fixture(scope="module", params=CASES)
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OnPolicyFiles:
    return trained_on_policy(CASES[request.param], tmp_path_factory.mktemp("recurrent"))


def collected_again(found: Any, trainee: Any) -> Any:
    drawing = found.drawing
    with trainee.session():
        return trainee.collected(drawing, batch_of_rows(drawing, drawing.numbers), draws(0))


def test_weights_after_an_update_are_the_librarys(files: OnPolicyFiles) -> None:
    before = files.case.maker.load(files.zip, device="cpu").policy.state_dict()
    trainee = trained_on(files.recomputed(batch_size=None), 2)
    model = library(files)
    assert_same(trainee, model)
    size = int(files.case.options.get("batch_size", 8))
    assert trainee.num_done == 2 * -(-32 // size)
    moved = {name for name, each in model.policy.state_dict().items() if not torch.equal(each, before[name])}
    assert {"lstm_actor.weight_hh_l0", "value_net.weight"} <= moved


def test_the_weights_that_collected_a_rollout_collect_it_again(files: OnPolicyFiles) -> None:
    """From the checkpoint's step on: what lies before it was collected by the same weights, too."""
    found = files.recomputed(batch_size=None)
    again, stored = collected_again(found, found.trainee()), found.drawing
    for name, states in stored.states.items():
        np.testing.assert_allclose(again.states[name], states, rtol=1e-5, atol=1e-6, err_msg=name)
        assert states.any()
    for name in ("values", "log_probs"):
        one, other = (getattr(each.rollout, name) for each in (again, stored))
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, err_msg=name)


def test_other_weights_collect_other_states(files: OnPolicyFiles) -> None:
    found = files.recomputed(batch_size=None)
    trainee = found.trainee()
    with torch.no_grad():
        trainee.parameters["lstm_actor.bias_ih_l0"].add_(0.5)
    again, stored = collected_again(found, trainee), found.drawing
    states = again.states["hidden_states_pi"]
    # What led to the first step is the run's own.
    assert np.array_equal(states[0], stored.states["hidden_states_pi"][0])
    assert not np.allclose(states[1], stored.states["hidden_states_pi"][1])
    # The rollout that was read is as it was.
    assert np.array_equal(stored.states["hidden_states_pi"], files.opened().lstm_states["hidden_states_pi"])


@pytest.mark.parametrize("extractor", ["Plain", "Noisy"])
def test_the_users_own_extractor_trains_on_too(extractor: str, tmp_path: Path) -> None:
    """Noisy has dropout and batch norm: its draws and statistics are the library's too."""
    with importable(tmp_path) as users:
        kwargs = {**SMALL, "features_extractor_class": getattr(users, extractor)}
        files = trained_on_policy(recurrent(num_environments=2, policy_kwargs=kwargs), tmp_path)
        model = library(files)
    code = UserCode(blobs=sb3_blobs(files.zip), folder=tmp_path)
    training = sb3_training(files.zip)
    found = recompute_rollout(training, files.opened(), batches=1, batch_size=8, seed=5, user_code=code)
    assert isinstance(found, TrustedRollout), found
    assert_same(trained_on(found, 2), model)
    again = collected_again(found, found.trainee())
    for name, states in found.drawing.states.items():
        np.testing.assert_allclose(again.states[name], states, rtol=1e-5, atol=1e-6, err_msg=name)


class Shifted(torch.nn.Module):
    """Remembers the rows it was shown in training."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen.append(rows)
        return rows + 1


def test_a_norm_in_front_takes_rows_and_no_padding(tmp_path: Path) -> None:
    found = trained_on_policy(recurrent(num_environments=2), tmp_path).recomputed(batch_size=None)
    drawing, module = found.drawing, Shifted()
    one = batch_of_sequences(drawing, np.roll(drawing.numbers, -5)[:12])
    assert not one.memory.mask.all()
    changed = InputModule(key="", module=module, shape=(-1, *one.observations.shape[1:])).on(one)
    assert torch.equal(module.seen[0], one.observations[one.memory.mask])
    assert torch.equal(changed.observations[one.memory.mask], module.seen[0] + 1)
    assert not changed.observations[~one.memory.mask].any()


@pytest.mark.parametrize(
    "case",
    [recurrent(num_environments=2), OnPolicyCase(algorithm="PPO", num_environments=2)],
    ids=["RecurrentPPO", "PPO"],
)
def test_a_later_rollout_is_collected_by_the_weights_of_that_time(case: OnPolicyCase, tmp_path: Path) -> None:
    """Twice over one rollout: the second time the first mini-batch's ratios are 1 again."""
    found = trained_on_policy(case, tmp_path).recomputed(batch_size=None)
    feed = RolloutFeed(drawings=[found.drawing], steps=[40], num_epochs=1)
    assert any("LSTM" in each for each in feed.notes) == bool(found.drawing.states)
    arm, drawn, ratios = Arm(trainee=found.trainee()), draws(5), []
    # A step that shows: the run's own rate moves little in four updates.
    arm.trainee.parts[0].optimizer.param_groups[0]["lr"] = 0.05
    with arm.trainee.session():
        for portion in feed.portions(arm, drawn, 2 * feed.per_rollout, found.batch_size):
            one = portion.batch
            with torch.no_grad():
                _, log_probs, _ = arm.trainee.losses.judged(arm.trainee.parameters, one)
            real = slice(None) if one.memory is None else one.memory.mask
            ratios.append((log_probs - one.log_probs)[real].abs().max())
            arm.trainee.update(one, drawn)
    assert ratios[0] < 1e-4
    assert ratios[feed.per_rollout] < 1e-4
    assert min(ratios[feed.per_rollout - 1], ratios[-1]) > 1e-2


def test_the_newest_rollout_comes_with_its_own_states(tmp_path: Path) -> None:
    found = trained_on_policy(recurrent(), tmp_path).recomputed(batch_size=None)
    last = replace(found.drawing, states={name: each[:1] for name, each in found.drawing.states.items()})
    feed = RolloutFeed(drawings=[found.drawing, last], steps=[40, 80], num_epochs=1)
    assert feed.latest(found).drawing.states is last.states
