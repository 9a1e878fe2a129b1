"""The rate is lower inside the step and nowhere else."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from gradscope.errors import UsageError
from gradscope.remedy import ActivityLearningRate

torch.set_num_threads(1)


class Watched(torch.optim.SGD):
    """Notes the rates it steps with."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.rates: list[Any] = []

    def step(self, closure: Any = None) -> Any:
        self.rates.append([group["lr"] for group in self.param_groups])
        return super().step(closure)


def optimizer(*rates: float) -> Watched:
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": rate} for rate in rates]
    made = Watched(groups, lr=1.0)
    for group in made.param_groups:
        group["params"][0].grad = torch.ones(2)
    return made


def step(*optimizers: Watched) -> list[list[Any]]:
    """Rates inside the step; they are the given ones again after it."""
    for each in optimizers:
        before = [group["lr"] for group in each.param_groups]
        each.step()
        assert [group["lr"] for group in each.param_groups] == before
    return [each.rates[-1] for each in optimizers]


def test_while_active_every_group_of_every_optimizer_steps_at_half_its_rate() -> None:
    one, other = optimizer(0.3, 0.07), optimizer(1e-4)
    rate = ActivityLearningRate([one, other])
    assert step(one, other) == [[0.3, 0.07], [1e-4]]
    rate.is_active = True
    assert step(one, other) == [[0.15, 0.035], [5e-5]]
    rate.is_active = False
    assert step(one, other) == [[0.3, 0.07], [1e-4]]
    rate.is_active = True
    rate.remove()
    assert step(one, other) == [[0.3, 0.07], [1e-4]]
    assert not one._optimizer_step_pre_hooks
    assert not one._optimizer_step_post_hooks


def test_the_weights_move_half_as_far() -> None:
    moved = []
    for active in (False, True):
        torch.manual_seed(0)
        net = torch.nn.Linear(4, 2)
        adam = torch.optim.Adam(net.parameters(), lr=0.01)
        ActivityLearningRate(adam).is_active = active
        before = net.weight.detach().clone()
        net(torch.ones(1, 4)).sum().backward()
        adam.step()
        moved.append(net.weight.detach() - before)
    torch.testing.assert_close(moved[1], moved[0] / 2)


@pytest.mark.parametrize(
    "scheduler",
    [
        lambda each: torch.optim.lr_scheduler.StepLR(each, 2, gamma=0.5),
        lambda each: torch.optim.lr_scheduler.OneCycleLR(each, 1.0, total_steps=12, cycle_momentum=False),
        lambda each: torch.optim.lr_scheduler.CosineAnnealingLR(each, 10),
        lambda each: torch.optim.lr_scheduler.ReduceLROnPlateau(each, patience=0),
    ],
)
def test_no_scheduler_sees_it(scheduler: Any) -> None:
    plain, lowered = optimizer(0.4), optimizer(0.4)
    ActivityLearningRate(lowered, 0.25).is_active = True
    schedules = [scheduler(each) for each in (plain, lowered)]
    for _ in range(10):
        for each, schedule in zip((plain, lowered), schedules, strict=True):
            each.step()
            schedule.step(*([1.0] if hasattr(schedule, "patience") else []))
    assert [rates[0] / 4 for rates in plain.rates] == pytest.approx([rates[0] for rates in lowered.rates])
    assert plain.state_dict()["param_groups"] == lowered.state_dict()["param_groups"]


def test_two_on_one_optimizer_multiply_and_all_is_given_back() -> None:
    sgd = optimizer(0.8)
    long, short = ActivityLearningRate(sgd, 0.5), ActivityLearningRate(sgd, 0.25)
    long.is_active = short.is_active = True
    assert step(sgd) == [[0.1]]
    long.is_active = False
    assert step(sgd) == [[0.2]]
    short.remove()
    assert step(sgd) == [[0.8]]


def test_a_failed_step_does_not_lower_the_rate_for_good() -> None:
    def fails() -> float:
        raise RuntimeError

    sgd = optimizer(0.8)
    both = [ActivityLearningRate(sgd, 0.5), ActivityLearningRate(sgd, 0.25)]
    for each in both:
        each.is_active = True
    for _ in range(2):
        with pytest.raises(RuntimeError):
            sgd.step(fails)
    sgd.step()
    assert sgd.rates[-1] == [0.1]
    assert sgd.param_groups[0]["lr"] == 0.8
    with pytest.raises(RuntimeError):
        sgd.step(fails)
    for each in both:
        each.remove()
    assert sgd.param_groups[0]["lr"] == 0.8


def test_a_rate_that_is_a_tensor_comes_back_as_the_same_tensor() -> None:
    rate = torch.tensor(0.5)
    adam = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], lr=rate, foreach=False)
    adam.param_groups[0]["params"][0].grad = torch.ones(2)
    ActivityLearningRate(adam).is_active = True
    adam.step()
    assert adam.param_groups[0]["lr"] is rate
    assert rate == 0.5
    assert adam.param_groups[0]["params"][0][0].item() == pytest.approx(0.75)


ROWS = np.zeros((4, 2, 5), np.float32)
ROWS[0, 1, 3] = 2.0
ROWS[1, 0, 3] = 2.0  # an older bar
ROWS[2, 1, 0] = 2.0  # market
ROWS[3, 1, 4] = np.nan


@pytest.mark.parametrize(
    ("observations", "options"),
    [
        (ROWS, {}),
        (torch.from_numpy(ROWS), {}),
        (ROWS.reshape(4, 10), {"sequence_length": 2}),
        (ROWS.reshape(4, 10), {"columns": "8:"}),
        (ROWS[:, 1], {}),
        (ROWS[:, 1] + np.float32(0.5), {"resting": 0.5}),
        (ROWS[:, 1] + np.array([0, 0, 0, 1, 2], np.float32), {"resting": [1, 2]}),
        (torch.from_numpy(ROWS[:, 1]).bfloat16(), {}),
    ],
)
def test_activity_is_seen_in_the_newest_bar(observations: Any, options: dict[str, Any]) -> None:
    rate = ActivityLearningRate(optimizer(1.0), **{"columns": "3:", **options})
    assert rate.observe(observations) == 0.25
    assert rate.is_active
    assert rate.observe(observations[1:]) == 0
    assert not rate.is_active


def test_threshold_is_the_least_share_of_rows() -> None:
    seen = {}
    for threshold in (0.0, 0.25, 0.26, 1.0):
        rate = ActivityLearningRate(optimizer(1.0), columns="3:", threshold=threshold)
        rate.observe(ROWS)
        seen[threshold] = rate.is_active
    assert seen == {0.0: True, 0.25: True, 0.26: False, 1.0: False}
    rate = ActivityLearningRate(optimizer(1.0), columns="3:")
    assert rate.observe(ROWS[:0]) == 0
    assert not rate.is_active


def test_state_dict_pickle_and_copy() -> None:
    rate = ActivityLearningRate(sgd := optimizer(1.0), columns=slice(3, 5))
    rate.observe(ROWS)
    fresh = ActivityLearningRate(optimizer(1.0))
    fresh.load_state_dict(rate.state_dict())
    assert fresh.is_active
    assert fresh.active_fraction == 0.25
    copied, pickled = copy.deepcopy((sgd, rate)), pickle.loads(pickle.dumps((sgd, rate)))
    for twin, twin_rate in (copied, pickled):
        twin.rates = []  # optimizers pickle nothing of their subclasses
        assert twin_rate.observe(ROWS) == 0.25
        assert step(twin) == [[0.5]]
        twin_rate.is_active = False
        assert step(twin) == [[1.0]]
        assert len(twin_rate._hooks) == 2
        twin_rate.remove()
        assert not twin._optimizer_step_pre_hooks
    assert step(sgd) == [[0.5]]


def test_exact_zeros_stay_whatever_the_rate() -> None:
    """It cannot help: a dead unit has no gradient to step along."""
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    torch.nn.init.constant_(net[0].bias, -100.0)
    adam = torch.optim.Adam(net.parameters(), lr=0.01)
    ActivityLearningRate(adam).is_active = True
    before = net[0].weight.detach().clone()
    for _ in range(5):
        adam.zero_grad()
        net(torch.ones(3, 2)).sum().backward()
        adam.step()
    assert torch.equal(net[0].weight, before)


def test_what_makes_no_sense_is_refused() -> None:
    for options in ({"factor": -1.0}, {"threshold": 1.5}, {"sequence_length": 0}):
        with pytest.raises(UsageError):
            ActivityLearningRate(optimizer(1.0), **options)
    with pytest.raises(UsageError, match="at least one"):
        ActivityLearningRate([])
    with pytest.raises(UsageError, match="is_active"):
        ActivityLearningRate(optimizer(1.0)).observe(ROWS)
    with pytest.raises(UsageError, match="outside"):
        ActivityLearningRate(optimizer(1.0), columns="3:9").observe(ROWS)
