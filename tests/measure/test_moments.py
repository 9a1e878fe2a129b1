"""Optimizer evidence against torch's own optimizers, driven with gradients whose past is known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gradscope.measure import ratios
from gradscope.measure.moments import MEASURES, SILENT, optimizer_evidence
from gradscope.measure.silence import Decay, solved

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradscope.records import OptimizerEvidence

ADAM = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "amsgrad": False}
SHAPE = (64, 32)


class Driven:
    """A real optimizer over one parameter, fed with gradients."""

    def __init__(self, optimizer: str = "Adam", shape: tuple[int, ...] = SHAPE, **options: Any) -> None:
        torch.manual_seed(0)
        dtype = options.pop("dtype", torch.float32)
        self.parameter = torch.nn.Parameter(torch.randn(shape).to(dtype))
        self.optimizer = getattr(torch.optim, optimizer)([self.parameter], **{"lr": 1e-3, **options})

    def step(self, gradient: torch.Tensor, times: int = 1) -> Driven:
        for _ in range(times):
            self.parameter.grad = gradient.to(self.parameter.dtype)
            self.optimizer.step()
        return self

    def noise(self, times: int, mask: torch.Tensor | float = 1.0) -> Driven:
        for _ in range(times):
            self.step(torch.randn(self.parameter.shape) * mask)
        return self

    def silence(self, times: int) -> Driven:
        return self.step(torch.zeros(self.parameter.shape), times)

    def state(self, name: str) -> Any:
        return self.optimizer.state[self.parameter][name].float().numpy()

    def evidence(self, gradient: Any = None) -> OptimizerEvidence:
        state = self.optimizer.state[self.parameter]
        moments = {
            name: np.asarray(each.numpy()) if each.dtype != torch.bfloat16 else _bfloat16(each)
            for name, each in state.items()
            if each is not None
        }
        group = self.optimizer.param_groups[0]
        plain = {name: each for name, each in group.items() if name != "params"}
        return optimizer_evidence(moments, plain, shape=tuple(self.parameter.shape), gradient=gradient)


def _bfloat16(tensor: torch.Tensor) -> Any:
    import ml_dtypes  # noqa: PLC0415

    return tensor.float().numpy().astype(ml_dtypes.bfloat16)


def planted() -> tuple[torch.Tensor, int]:
    """A mask with a dead unit, two dead inputs and three more dead elements, and their number."""
    mask = torch.ones(SHAPE)
    mask[3] = 0
    mask[:, [5, 6]] = 0
    mask[7, [8, 9, 10]] = 0
    return mask, 32 + 2 * 63 + 3


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("Adam", {}),
        ("AdamW", {"weight_decay": 0.1}),
        ("NAdam", {}),
        ("RAdam", {}),
        ("RMSprop", {}),
        ("RMSprop", {"centered": True, "momentum": 0.9}),
        ("Adadelta", {}),
        ("Adagrad", {}),
        ("SGD", {"momentum": 0.9}),
        ("SGD", {"momentum": 0.9, "nesterov": True}),
    ],
)
def test_planted_dead_elements_are_found_to_the_last_one(optimizer: str, options: dict[str, Any]) -> None:
    mask, num_dead = planted()
    # 3,000 updates without a gradient: what died later never looks as if it had never lived.
    found = Driven(optimizer, **options).noise(5, mask).silence(3000).evidence()
    assert found.never_trained_fraction == pytest.approx(num_dead / mask.numel(), abs=1e-12)
    assert (found.never_trained_rows, found.never_trained_columns) == (1, 2)
    assert found.num_updates == (None if optimizer == "SGD" else 3005)


def test_fully_trained_and_never_trained_layers() -> None:
    assert Driven().noise(3).evidence().never_trained_fraction == 0.0
    found = Driven().silence(50).evidence()
    assert found.never_trained_fraction == 1.0
    assert (found.never_trained_rows, found.never_trained_columns) == SHAPE
    assert found.silent_updates is None
    assert found.reasons["silent_updates"] == "not testable: no gradient ever reached this layer"


@pytest.mark.parametrize(("size", "is_trained"), [(1e-20, 1), (9e-22, 1), (8e-22, 0), (1e-30, 0), (-0.0, 0)])
def test_an_exact_zero_means_never_above_1e_21(size: float, is_trained: int) -> None:
    found = Driven(shape=(1,)).step(torch.full((1,), size)).evidence()
    assert found.never_trained_fraction == 1 - is_trained


def test_averages_stick_at_the_smallest_numbers_and_never_become_zero() -> None:
    driven = Driven(shape=(8,)).noise(5).silence(20_000)
    assert set(np.abs(driven.state("exp_avg"))) == {np.float32(5.6e-45)}
    assert (driven.state("exp_avg_sq") > 0).all()
    assert driven.evidence().never_trained_fraction == 0.0


def test_the_constant_of_noise_is_0_229() -> None:
    driven = Driven(shape=(200, 100)).noise(2000)
    square = driven.state("exp_avg_sq").mean() / (1 - 0.999**2000)
    found = np.sqrt(np.square(driven.state("exp_avg")).mean() / square)
    decay = Decay(beta1=0.9, beta2=0.999, num_updates=10**9)
    assert math.exp(decay.noise(0) / 2) == pytest.approx(0.2294, abs=5e-5) == pytest.approx(found, rel=0.02)
    assert math.exp(-decay.per_update) == pytest.approx(0.9 / math.sqrt(0.999))


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.8, 0.9), (0.5, 0.99), (0.95, 0.98)])
@pytest.mark.parametrize("active", [1, 2, 10, 400])
def test_every_curve_is_the_sum_it_stands_for(betas: tuple[float, float], active: int) -> None:
    """Sums written out, gradient by gradient: the slow way."""
    first, second, silent = *betas, 7
    decay = Decay(beta1=first, beta2=second, num_updates=active + silent)
    w = np.array([(1 - first) * first**j for j in range(silent, active + silent)])
    u = np.array([(1 - second) * second**j for j in range(silent, active + silent)])
    assert math.exp(decay.noise(silent)) == pytest.approx((w**2).sum() / u.sum(), rel=1e-9)
    assert math.exp(decay.most(silent)) == pytest.approx((w**2 / u).sum(), rel=1e-9)
    signs = (-1.0) ** np.arange(active)
    alternating = (signs * w).sum() ** 2 / u.sum()
    assert math.exp(decay.least(silent)) <= alternating * (1 + 1e-9)
    assert decay.least(silent) < decay.noise(silent) <= decay.most(silent) + 1e-9


def sequences(kind: str, base: torch.Tensor, step: int) -> torch.Tensor:
    kinds: dict[str, torch.Tensor] = {
        "noise": torch.randn(base.shape),
        "sparse noise": torch.randn(base.shape) * (torch.rand(base.shape) < 0.1),
        "one sign": base,
        "mixed": base + torch.randn(base.shape),
        "alternating": base * (-1) ** step,
        "outburst": base * (1000.0 if step == 999 else 1.0),
    }
    return kinds[kind]


@pytest.mark.parametrize(
    ("kind", "bias"),
    [
        ("noise", 1),
        ("sparse noise", 2),
        ("one sign", 14),
        ("mixed", 11),
        ("alternating", 14),
        ("outburst", 25),
    ],
)
def test_updates_since_a_layer_fell_silent(kind: str, bias: int) -> None:
    """Noise within 1 update, other stationary gradients within 14, a last outburst within 25."""
    driven = Driven()
    base = torch.randn(SHAPE)
    for step in range(1000):
        driven.step(sequences(kind, base, step))
    passed = 0
    for silent in (5, 20, 100, 300, 800):
        found = driven.silence(silent - passed).evidence()
        passed = silent
        assert found.silent_updates is not None
        assert found.silent_updates >= 0
        assert abs(found.silent_updates - silent) <= bias
        assert found.silent_at_least is not None
        assert found.silent_at_most is not None
        assert found.silent_at_least <= silent <= found.silent_at_most
        assert found.silent_at_least <= found.silent_updates <= found.silent_at_most
        assert found.silent_at_least > 0 or silent < 100
        assert found.silent_at_most - found.silent_at_least < 60


@pytest.mark.parametrize("active", [1, 2, 5, 30])
def test_few_updates_before_the_silence(active: int) -> None:
    found = Driven().noise(active).silence(50).evidence()
    assert found.silent_updates == pytest.approx(50, abs=2)
    assert found.num_updates == active + 50


@pytest.mark.parametrize("betas", [(0.5, 0.9), (0.95, 0.99), (0.9, 0.95), (0.8, 0.9999)])
def test_other_betas_have_other_constants(betas: tuple[float, float]) -> None:
    found = Driven(betas=betas).noise(500).silence(40).evidence()
    assert found.silent_updates == pytest.approx(40, abs=2)


def test_a_gradient_that_only_shrank_is_told_apart_where_one_is_known() -> None:
    """From the averages alone it cannot be: that is the limit of this evidence."""
    driven = Driven().noise(500).noise(60, 1e-4)
    last = torch.randn(SHAPE) * 1e-4
    found = driven.step(last).evidence()
    assert found.silent_at_least is not None
    assert found.silent_at_least > 20
    known = driven.evidence(last.numpy())
    for name in SILENT:
        assert getattr(known, name) is None
        assert "it has shrunk" in known.reasons[name]
    gone = driven.silence(100).evidence(np.zeros(SHAPE, np.float32))
    assert gone.silent_at_least is not None
    assert gone.silent_at_least > 100


def test_beyond_the_range_only_a_lower_bound_is_told() -> None:
    driven = Driven().noise(300)
    last = 0
    for silent in range(100, 1600, 100):
        found = driven.silence(100).evidence()
        assert found.silent_at_least is not None
        assert 0 < found.silent_at_least <= silent
        if found.silent_updates is not None:
            assert found.silent_updates == pytest.approx(silent, abs=3)
            last = silent
        else:
            assert found.reasons["silent_updates"] == found.reasons["silent_at_most"]
            assert found.reasons["silent_updates"].startswith(f"more than {found.silent_at_least} updates")
            assert found.silent_at_least > 700
    assert last in {800, 900}


def test_a_machine_that_flushes_denormals_to_zero_is_not_misread() -> None:
    """The average gradient then becomes exactly 0, the squared one not before 75,000 silent updates."""
    if not torch.set_flush_denormal(True):
        return  # no such mode on this processor: nothing to mislead
    try:
        driven = Driven().noise(300).silence(1500)
        average = driven.state("exp_avg").copy()
    finally:
        torch.set_flush_denormal(False)
    assert not average.any()
    found = driven.evidence()
    assert found.never_trained_fraction == 0.0
    assert found.silent_updates is None
    assert found.silent_at_least is not None
    assert 700 < found.silent_at_least <= 1500
    assert found.reasons["silent_updates"].startswith("more than")
    assert (found.silent_rows, found.silent_columns) == SHAPE


def test_one_loud_dead_input_does_not_silence_a_layer() -> None:
    """Why ratios are averaged and not averages divided: positions closed, the market still trains."""
    driven = Driven()
    loud = torch.ones(SHAPE)
    loud[:, :2] = 1000.0
    driven.noise(500, loud)
    closed = torch.ones(SHAPE)
    closed[:, :2] = 0
    driven.noise(200, closed)
    divided = np.square(driven.state("exp_avg")).sum() / np.square(driven.state("exp_avg_sq") ** 0.5).sum()
    decay = Decay(beta1=0.9, beta2=0.999, num_updates=700)
    assert solved(decay.noise, math.log(divided), 700) > 50
    found = driven.evidence()
    assert (found.silent_updates, found.silent_at_least) in {(0, 0), (1, 0)}
    assert (found.silent_rows, found.silent_columns) == (0, 2)


def test_a_layer_is_as_silent_as_its_last_living_unit() -> None:
    only = torch.zeros(SHAPE)
    only[9] = 1
    found = Driven().noise(300).noise(300, only).evidence()
    assert found.silent_at_least == 0
    assert found.silent_at_most is not None
    assert found.silent_updates is not None
    assert found.silent_updates <= found.silent_at_most < 40
    assert (found.silent_rows, found.silent_columns) == (63, 0)


def test_silent_units_and_inputs_are_counted_apart_from_never_trained_ones() -> None:
    mask, _ = planted()
    driven = Driven().noise(300, mask)
    mask[[20, 21, 22]] = 0
    mask[:, 30] = 0
    found = driven.noise(250, mask).evidence()
    assert (found.silent_rows, found.silent_columns) == (3, 1)
    assert (found.never_trained_rows, found.never_trained_columns) == (1, 2)
    assert found.silent_at_least == 0


@pytest.mark.parametrize("activation", [torch.nn.ReLU, torch.nn.Tanh])
def test_a_real_network_in_training_is_not_called_silent(activation: Callable[[], torch.nn.Module]) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        *(torch.nn.Linear(16, 32), activation(), torch.nn.Linear(32, 32), activation()),
        torch.nn.Linear(32, 1),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    last = {name: np.full(p.shape, -1) for name, p in net.named_parameters()}
    checked = false = false_lines = 0
    for step in range(600):
        x = torch.randn(64, 16)
        optimizer.zero_grad()
        (net(x) - x[:, :1].sin()).square().mean().backward()
        optimizer.step()
        for name, p in net.named_parameters():
            assert p.grad is not None
            last[name][p.grad.numpy() != 0] = step
            if step % 20 != 19:
                continue
            moments = {key: each.numpy() for key, each in optimizer.state[p].items()}
            found = optimizer_evidence(moments, ADAM, shape=tuple(p.shape))
            truth = step - int(last[name].max())
            assert found.silent_at_least is not None
            assert found.silent_at_most is not None
            assert found.silent_at_most >= truth
            checked, false = checked + 1, false + (found.silent_at_least > truth)
            if p.ndim > 1 and found.silent_rows is not None and found.silent_columns is not None:
                quiet = (last[name] < step) & (last[name] >= 0)
                false_lines += found.silent_rows > quiet.all(1).sum()
                false_lines += found.silent_columns > quiet.all(0).sum()
    assert checked == 180
    assert false <= 2
    assert false_lines <= 1


def test_too_few_units_are_told_and_not_guessed() -> None:
    driven = Driven(shape=(1,)).noise(300)
    nulls = 0
    for _ in range(40):
        found = driven.noise(1).evidence()
        assert found.silent_at_least == 0
        if found.silent_updates is None:
            assert "too few units (1) to tell" in found.reasons["silent_updates"]
            nulls += 1
        else:
            assert found.silent_updates == 0
    assert 0 < nulls < 40
    assert driven.silence(300).evidence().silent_updates == pytest.approx(300, abs=30)


@pytest.mark.parametrize("rate", [1.0, 0.5, 0.2, 0.05])
@pytest.mark.parametrize("optimizer", ["Adam", "RMSprop", "Adagrad"])
def test_activity_rate_is_the_share_of_updates_with_a_gradient(optimizer: str, rate: float) -> None:
    options: dict[str, Any] = {"alpha": 0.999} if optimizer == "RMSprop" else {}
    shape = (200, 100)
    driven = Driven(optimizer, shape, **options)
    for _ in range(1500):
        gradient = torch.randn(shape) * (torch.rand(shape) < rate)
        driven.step(gradient)
    found = driven.evidence(gradient.numpy())
    assert found.activity_rate == pytest.approx(rate, rel=0.1)
    assert found.activity_rate is not None
    present = gradient.numpy() != 0
    weight = {"Adam": 1 - 0.999**1500, "RMSprop": 1 - 0.999**1500, "Adagrad": 1500}[optimizer]
    name = {"Adam": "exp_avg_sq", "RMSprop": "square_avg", "Adagrad": "sum"}[optimizer]
    v_hat = driven.state(name)[present] / weight
    rms = np.sqrt(np.square(gradient.numpy()[present], dtype=float).mean())
    assert np.sqrt(v_hat.mean()) / rms == pytest.approx(math.sqrt(rate), rel=0.05)


def test_activity_rate_of_few_updates_is_corrected() -> None:
    gradient = torch.randn(SHAPE)
    assert Driven().step(gradient, 2).evidence(gradient.numpy()).activity_rate == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(
    ("gradient", "reason"),
    [
        (None, "needs a gradient"),
        (np.zeros(SHAPE, np.float32), "fewer than 32 values"),
        (np.full(SHAPE, np.nan, np.float32), "fewer than 32 values"),
        (np.ones((3, 4), np.float32), "needs a gradient"),
        (np.full(SHAPE, 1e-3, np.float32), "times as large"),
    ],
)
def test_activity_rate_without_a_gradient_to_compare_with(gradient: Any, reason: str) -> None:
    found = Driven().noise(100).evidence(gradient)
    assert found.activity_rate is None
    assert reason in found.reasons["activity_rate"]
    assert found.never_trained_fraction == 0.0


@pytest.mark.parametrize(
    ("optimizer", "options", "reason"),
    [
        ("Adam", {"weight_decay": 0.1}, "weight decay 0.1 is added to the gradient"),
        ("RMSprop", {"weight_decay": 0.1}, "weight decay 0.1 is added to the gradient"),
        ("SGD", {"weight_decay": 0.1, "momentum": 0.9}, "weight decay 0.1 is added to the gradient"),
        ("Adagrad", {"weight_decay": 0.1}, "weight decay 0.1 is added to the gradient"),
        ("Adam", {"amsgrad": True}, "amsgrad"),
        ("AdamW", {"amsgrad": True}, "amsgrad"),
        ("SGD", {"momentum": 0.3}, "can fall back to exactly 0"),
        ("RMSprop", {"alpha": 0.4}, "can fall back to exactly 0"),
        ("Adagrad", {"initial_accumulator_value": 0.1}, "did not start at 0"),
        ("Adamax", {}, "unknown kind, with the states exp_avg, exp_inf, step"),
        ("Adam", {"dtype": torch.float16, "eps": 1e-4}, "float16 averages fall to exactly 0"),
    ],
)
def test_where_nothing_is_claimed(optimizer: str, options: dict[str, Any], reason: str) -> None:
    found = Driven(optimizer, **options).silence(3).evidence()
    assert all(getattr(found, name) is None for name in MEASURES)
    assert set(found.reasons) >= set(MEASURES)
    assert all(found.reasons[name].startswith("not testable: ") for name in MEASURES)
    assert reason in found.reasons["never_trained_fraction"]


def test_l2_decay_fills_the_averages_of_a_layer_without_any_gradient() -> None:
    """What the refusal above protects from; apart from the gradient (AdamW) they stay 0."""
    filled = Driven("Adam", weight_decay=0.1).silence(3).state("exp_avg_sq")
    kept = Driven("AdamW", weight_decay=0.1).silence(3).state("exp_avg_sq")
    assert (filled > 0).all()
    assert not kept.any()


@pytest.mark.parametrize(
    ("optimizer", "options", "reason"),
    [
        ("RMSprop", {}, "two averages that forget at different speeds"),
        ("RMSprop", {"centered": True}, "two averages that forget at different speeds"),
        ("SGD", {"momentum": 0.9}, "two averages that forget at different speeds"),
        ("Adagrad", {}, "two averages that forget at different speeds"),
        ("Adam", {"betas": (0.99, 0.9)}, "the first average must forget faster"),
        ("Adam", {"betas": (0.0, 0.9)}, "the first average must forget faster"),
        ("Adam", {"dtype": torch.bfloat16}, "bfloat16 are too coarse"),
    ],
)
def test_where_silence_is_not_testable_and_never_trained_is(
    optimizer: str, options: dict[str, Any], reason: str
) -> None:
    mask, num_dead = planted()
    found = Driven(optimizer, **options).noise(20, mask).evidence()
    assert found.never_trained_fraction == pytest.approx(num_dead / mask.numel())
    for name in SILENT:
        assert getattr(found, name) is None
        assert reason in found.reasons[name]


def test_one_dimension_has_no_rows_and_convolutions_have_channels() -> None:
    bias = Driven(shape=(64,)).noise(300).evidence()
    for name in ("never_trained_rows", "never_trained_columns", "silent_rows", "silent_columns"):
        assert getattr(bias, name) is None
        assert "one dimension" in bias.reasons[name]
    mask = torch.ones(8, 4, 3, 3)
    mask[2] = 0
    mask[:, 1] = 0
    found = Driven(shape=(8, 4, 3, 3)).noise(20, mask).evidence()
    assert (found.never_trained_rows, found.never_trained_columns) == (1, 1)
    scalar = Driven(shape=()).noise(20).evidence()
    assert scalar.never_trained_fraction == 0.0


def moments_of(average: Any, square: Any, step: Any = 100.0) -> dict[str, Any]:
    return {"exp_avg": average, "exp_avg_sq": square, "step": np.asarray(step, np.float32)}


ONES = np.ones((3, 2), np.float32)


@pytest.mark.parametrize(
    ("moments", "changes", "reason"),
    [
        (moments_of(ONES, ONES, 0), {}, "the optimizer has not stepped"),
        (moments_of(ONES, ONES * np.nan), {}, "not finite"),
        (moments_of(ONES * np.inf, ONES), {}, "not finite"),
        (moments_of(ONES, -ONES), {}, "negative"),
        (moments_of(ONES[:2], ONES), {}, "shape [2, 2] is not the parameter's [3, 2]"),
        (moments_of(ONES, ONES), {"weight_decay": None}, "does not say whether weights decay"),
        (moments_of(ONES, ONES), {"weight_decay": 0.01}, "does not say whether apart"),
        (moments_of(ONES, ONES), {"betas": "text"}, "do not last"),
        (moments_of(ONES, ONES), {"betas": (0.9, 1.5)}, "do not last"),
        (moments_of(ONES, ONES), {"betas": (0.9, math.nan)}, "do not last"),
        ({"step": np.ones(())}, {}, "unknown kind"),
        ({**moments_of(ONES, ONES), "exp_avg_diff": ONES}, {}, "unknown kind"),
        ({"square_avg": ONES}, {"alpha": 0.99}, "may start its squared average at 1"),
    ],
)
def test_state_that_is_damaged_or_does_not_say_enough(
    moments: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    found = optimizer_evidence(moments, {**ADAM, **changes}, shape=(3, 2))
    assert all(getattr(found, name) is None for name in MEASURES)
    assert reason in found.reasons["never_trained_fraction"]


def test_an_unknown_number_of_updates_is_told() -> None:
    for step in (math.nan, -1.0, 2.5, 1e30):
        found = optimizer_evidence(moments_of(ONES, ONES, step), ADAM, shape=(3, 2))
        assert found.num_updates is None
        assert "num_updates" in found.reasons
        assert found.never_trained_fraction == 0.0
        assert "number of updates is unknown" in found.reasons["silent_updates"]


def test_an_absurd_number_of_updates_ends() -> None:
    found = optimizer_evidence(moments_of(ONES * 1e-9, ONES, 2.0**52), ADAM, shape=(3, 2))
    assert found.silent_at_least is not None
    assert 0 < found.silent_at_least < 300


def test_a_layer_without_elements_has_no_fraction() -> None:
    empty = np.ones((0, 2), np.float32)
    found = optimizer_evidence(moments_of(empty, empty), ADAM, shape=(0, 2))
    assert found.never_trained_fraction is None
    assert found.reasons["never_trained_fraction"] == "not testable: no elements"


VALUES = st.sampled_from([0.0, 5.6e-45, 1e-40, 1e-30, 1e-12, 1e-6, 0.1, 1.0, 1e6])
STATES = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, max_side=5), elements=VALUES)


@settings(max_examples=300, deadline=None)
@given(STATES, st.integers(1, 5000), st.integers(0, 2**32 - 1))
def test_any_state_gives_bounds_in_order_and_a_reason_for_every_null(
    square: Any, step: int, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    average = (np.sqrt(square) * draw.normal(size=square.shape) * draw.choice([1, 1e-3, 1e-30])).astype("f4")
    found = optimizer_evidence(moments_of(average, square, step), ADAM, shape=square.shape)
    assert found.never_trained_fraction == pytest.approx(np.mean(square == 0))
    known = [found.silent_at_least, found.silent_updates, found.silent_at_most]
    numbers = [each for each in known if each is not None]
    assert numbers == sorted(numbers)
    assert all(0 <= each <= step for each in numbers)
    for name in (*MEASURES, "num_updates"):
        assert (getattr(found, name) is None) == (name in found.reasons)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.integers(1, 7), st.integers(0, 99))
def test_scale_order_and_block_size_do_not_matter(silent: int, size: int, seed: int) -> None:
    assume(silent != 1)
    draw = np.random.default_rng(seed)
    square = draw.lognormal(size=(12, 6)).astype(np.float32)
    average = (np.sqrt(square) * draw.normal(size=square.shape) * 0.229 * 0.9**silent).astype(np.float32)
    whole = optimizer_evidence(moments_of(average, square, 2000), ADAM, shape=(12, 6))
    rows, columns = draw.permutation(12), draw.permutation(6)
    moved = moments_of(average[rows][:, columns] * 4, square[rows][:, columns] * 16, 2000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ratios, "CHUNK_ELEMENTS", size)
        assert optimizer_evidence(moved, ADAM, shape=(12, 6)) == whole
