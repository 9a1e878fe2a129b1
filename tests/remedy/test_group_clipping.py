"""Each group as torch's own clipping would do it alone; a broken one harms no other."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from record.worlds import Market
from stable_baselines3 import PPO

from gradscope.errors import UsageError
from gradscope.remedy import clip_by_group

torch.set_num_threads(1)


def parameter(*gradient: float) -> torch.nn.Parameter:
    made = torch.nn.Parameter(torch.zeros(len(gradient)))
    made.grad = torch.tensor(gradient)
    return made


def group(seed: int, size: float) -> list[torch.nn.Parameter]:
    draw = torch.Generator().manual_seed(seed)
    made = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((3, 4), (3,), ())]
    for each in made:
        each.grad = size * torch.randn(each.shape, generator=draw)
    return made


@given(
    st.floats(1e-3, 1e3),
    st.floats(0.01, 100),
    st.sampled_from([1.0, 2.0, 3.0, math.inf]),
    st.sampled_from([None, True, False]),
)
@settings(max_examples=40, deadline=None)
def test_every_group_is_as_if_it_were_clipped_alone(
    size: float, max_norm: float, norm_type: float, foreach: bool | None
) -> None:
    ours = {"policy": group(0, size), "value": group(1, 1.0)}
    theirs = {"policy": group(0, size), "value": group(1, 1.0)}
    norms = clip_by_group(ours, max_norm, norm_type=norm_type, foreach=foreach)
    for name, members in theirs.items():
        norm = torch.nn.utils.clip_grad_norm_(members, max_norm, norm_type)
        assert norms[name] == pytest.approx(float(norm), rel=1e-5)
        for mine, other in zip(ours[name], members, strict=True):
            torch.testing.assert_close(mine.grad, other.grad)


def test_an_exploding_head_no_longer_shrinks_the_others() -> None:
    value, policy = parameter(1e6), parameter(1e-2)
    together = parameter(1e6), parameter(1e-2)
    torch.nn.utils.clip_grad_norm_(together, 0.5)
    assert together[1].grad is not None
    assert together[1].grad.item() == pytest.approx(5e-9)
    assert clip_by_group({"value": [value], "policy": [policy]}, 0.5) == {
        "value": 1e6,
        "policy": pytest.approx(1e-2),
    }
    assert value.grad is not None
    assert policy.grad is not None
    assert value.grad.item() == pytest.approx(0.5)
    assert policy.grad.item() == pytest.approx(1e-2, rel=1e-7)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_a_group_that_is_not_finite_sits_out_one_step_and_the_others_go_on(kind: Any, bad: float) -> None:
    broken, sound = parameter(1.0, 1.0), parameter(3.0, 4.0)
    optimizer = kind([broken, sound], lr=0.1)
    optimizer.step()
    before, state = broken.detach().clone(), str(optimizer.state.get(broken))
    moved = sound.detach().clone()
    broken.grad, sound.grad = torch.tensor([bad, 1.0]), torch.tensor([3.0, 4.0])
    norms = clip_by_group({"broken": [broken], "sound": [sound]}, 1.0)
    assert not math.isfinite(norms["broken"])
    assert broken.grad is None
    assert sound.grad is not None
    assert sound.grad.tolist() == pytest.approx([0.6, 0.8])
    optimizer.step()
    assert torch.equal(broken, before)
    assert str(optimizer.state.get(broken)) == state
    assert (sound != moved).all()


def test_asked_to_raise_it_touches_nothing() -> None:
    sound, broken = parameter(3.0, 4.0), parameter(math.nan)
    with pytest.raises(RuntimeError, match="value: the gradient norm is not finite"):
        clip_by_group({"policy": [sound], "value": [broken]}, 1.0, error_if_nonfinite=True)
    assert sound.grad is not None
    assert broken.grad is not None
    assert sound.grad.tolist() == [3, 4]
    assert broken.grad.isnan().all()


def test_a_finite_gradient_has_a_finite_norm() -> None:
    large = parameter(3e30, 4e30)
    assert clip_by_group({"all": [large]}, 1.0)["all"] == pytest.approx(5e30)
    assert large.grad is not None
    assert large.grad.tolist() == pytest.approx([0.6, 0.8])
    half = torch.nn.Parameter(torch.zeros(2, dtype=torch.float16))
    half.grad = torch.full((2,), 60_000.0, dtype=torch.float16)
    assert clip_by_group({"all": [half]}, math.inf)["all"] == pytest.approx(60_000 * 2**0.5)
    assert half.grad[0] == 60_000


def test_what_needs_no_clipping_stays_as_it_is_to_the_last_bit() -> None:
    members = group(3, 1e-3)
    before = [each.grad.clone() for each in members if each.grad is not None]
    clip_by_group({"all": iter(members)}, {"all": 10.0})
    for each, copy in zip(members, before, strict=True):
        assert each.grad is not None
        assert torch.equal(each.grad, copy)


def test_each_group_may_have_its_own_limit_and_no_gradient_is_no_norm() -> None:
    tied = parameter(3.0, 4.0)
    frozen = torch.nn.Parameter(torch.zeros(2))
    groups = {"tied": [tied, tied], "frozen": [frozen], "none": []}
    assert clip_by_group(groups, {"tied": 2.5, "frozen": 1.0, "none": 1.0}) == {
        "tied": 5.0,
        "frozen": 0.0,
        "none": 0.0,
    }
    assert tied.grad is not None
    assert tied.grad.tolist() == pytest.approx([1.5, 2.0])


def test_what_makes_no_sense_is_refused() -> None:
    shared = parameter(1.0)
    with pytest.raises(UsageError, match="'policy' and 'value'"):
        clip_by_group({"policy": [shared], "value": [shared]}, 1.0)
    for limit in (0.0, -1.0, math.nan, {"policy": 1.0, "value": 1.0}, {}):
        with pytest.raises(UsageError, match="max_norm"):
            clip_by_group({"policy": [shared]}, limit)
    assert shared.grad is not None
    assert shared.grad.item() == 1


def test_under_adam_a_group_that_is_clipped_at_every_step_moves_as_before() -> None:
    """It cannot help: the size of a steady gradient does not matter to Adam."""
    moved = []
    for limit in (math.inf, 1.0):
        steep = torch.nn.Parameter(torch.zeros(2))
        adam = torch.optim.Adam([steep], lr=0.1)
        for _ in range(10):
            steep.grad = torch.tensor([300.0, -400.0])
            clip_by_group({"steep": [steep]}, limit)
            adam.step()
        moved.append(steep.detach())
    torch.testing.assert_close(moved[0], moved[1])


def test_inside_ppo_as_a_hook_of_its_optimizer() -> None:
    options = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 0, "device": "cpu"}
    model = PPO("MlpPolicy", Market(), max_grad_norm=math.inf, policy_kwargs={"net_arch": [8]}, **options)
    value = [*model.policy.mlp_extractor.value_net.parameters(), *model.policy.value_net.parameters()]
    known = {id(each) for each in value}
    groups = {"value": value, "policy": [each for each in model.policy.parameters() if id(each) not in known]}
    before, after = [], []

    def clip(*_: object) -> None:
        before.append(clip_by_group(groups, 0.01))
        after.append(clip_by_group(groups, math.inf))

    model.policy.optimizer.register_step_pre_hook(clip)
    model.learn(64)
    assert len(before) == 8
    assert max(norms["value"] for norms in before) > 0.1
    assert all(norm <= 0.01 * (1 + 1e-5) for norms in after for norm in norms.values())
