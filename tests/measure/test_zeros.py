"""Zeros of one gradient: known answers, the slow oracle, and what must not change them."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import ml_dtypes
import numpy as np
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gradscope.measure import unexpected_fraction, zero_count, zeros
from gradscope.records import ZeroAnatomy, ZeroCount

WIDE = st.sampled_from([0.0, -0.0, 1e-45, 1e-8, 9e-9, 1.1e-8, -1.0, 3.5, 1e38, math.nan, math.inf, -math.inf])
GRADIENTS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=4, max_side=4), elements=WIDE)


def check(count: ZeroCount, expected: dict[str, Any]) -> None:
    found = asdict(count)
    kinds = {kind: number for kind, number in found.pop("anatomy").items() if number}
    assert kinds == expected.pop("anatomy")
    for key in ("norm", "max_abs"):
        value, wanted = found.pop(key), expected.pop(key)
        assert value == (None if wanted is None else pytest.approx(wanted, rel=1e-6))
    assert found == expected


@settings(max_examples=300, deadline=None)
@given(GRADIENTS)
def test_counts_agree_with_the_oracle(gradient: Any) -> None:
    check(zero_count(gradient, name="layer.weight"), oracles.zeros(gradient))


@settings(max_examples=50, deadline=None)
@given(GRADIENTS, st.integers(1, 7))
def test_the_size_of_the_blocks_does_not_matter(gradient: Any, size: int) -> None:
    whole = zero_count(gradient, name="w")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zeros, "CHUNK_ELEMENTS", size)
        pieces = zero_count(gradient, name="w")
    assert pieces.anatomy == whole.anatomy
    assert (pieces.num_zero, pieces.num_exact_zero) == (whole.num_zero, whole.num_exact_zero)
    assert pieces.norm == pytest.approx(whole.norm)


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.float64, (4, 3), elements=WIDE), st.permutations(range(4)), st.permutations(range(3)))
def test_order_of_units_and_inputs_does_not_matter(
    gradient: Any, rows: list[int], columns: list[int]
) -> None:
    moved = gradient[rows][:, columns]
    found, wanted = zero_count(moved, name="w"), zero_count(gradient, name="w")
    assert found.anatomy == wanted.anatomy
    assert found.norm == pytest.approx(wanted.norm)


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.float64, (3, 5), elements=st.floats(-1e6, 1e6)), st.floats(1e-3, 1e3))
def test_the_norm_scales_with_the_gradient(gradient: Any, factor: float) -> None:
    norm = zero_count(gradient, name="w").norm
    assert norm is not None
    assert zero_count(gradient * factor, name="w").norm == pytest.approx(norm * factor)
    assert norm == pytest.approx(float(np.linalg.norm(gradient)))


@settings(max_examples=100, deadline=None)
@given(GRADIENTS)
def test_a_nan_is_never_a_zero_and_kinds_add_up(gradient: Any) -> None:
    count = zero_count(gradient, name="w")
    assert sum(asdict(count.anatomy).values()) == count.num_zero
    if gradient.size:
        spoiled = gradient.copy()
        spoiled.flat[0] = np.nan
        after = zero_count(spoiled, name="w")
        assert after.num_zero == count.num_zero - int(abs(float(gradient.flat[0])) <= 1e-8)
        assert after.num_nonfinite == count.num_nonfinite + int(np.isfinite(gradient.flat[0]))
        assert after.anatomy.whole_layer == 0


def test_dead_inputs_come_before_dead_units_and_the_rest_is_scattered() -> None:
    gradient = np.ones((4, 5))
    gradient[:, 1] = 0
    gradient[2] = 0
    gradient[0, 0] = 1e-9
    count = zero_count(gradient, name="w")
    assert count.anatomy == ZeroAnatomy(dead_input=4, dead_unit=4, scattered=1)
    assert (count.num_zero, count.num_exact_zero) == (9, 8)


def test_a_convolution_counts_all_kernel_elements_of_a_dead_channel() -> None:
    gradient = np.ones((4, 3, 2, 2))
    gradient[:, 1] = 0
    gradient[3] = 0
    gradient[0, 0, 0, 0] = 0
    assert zero_count(gradient, name="w").anatomy == ZeroAnatomy(dead_input=16, dead_unit=8, scattered=1)


@pytest.mark.parametrize(
    ("name", "module", "size", "expected"),
    [
        ("attention.in_proj_bias", "MultiheadAttention", 12, 4),
        ("in_proj_bias", None, 12, 4),
        ("attention.in_proj_bias", "Linear", 12, 0),
        ("attention.in_proj_bias_scale", None, 12, 0),
        ("attention.in_proj_bias", None, 13, 0),
    ],
)
def test_the_key_bias_of_attention_is_expected(
    name: str, module: str | None, size: int, expected: int
) -> None:
    gradient = np.ones(size, np.float32)
    gradient[4:8] = 1e-10
    gradient[0] = 0
    count = zero_count(gradient, name=name, module=module)
    assert count.anatomy == ZeroAnatomy(expected=expected, dead_unit=5 - expected)
    assert unexpected_fraction(count) == (5 - expected) / size


def test_a_dead_attention_bias_is_expected_first_then_a_whole_layer() -> None:
    count = zero_count(np.zeros(12), name="in_proj_bias")
    assert count.anatomy == ZeroAnatomy(expected=4, whole_layer=8)


def test_a_real_attention_layer_has_its_key_bias_expected() -> None:
    torch.manual_seed(0)
    layer = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    bars = torch.randn(16, 4, 8)
    layer(bars, bars, bars)[0].square().sum().backward()
    # Dust of a few ulp is left of an exact 0, and grows with the loss.
    count = zero_count(layer.in_proj_bias.grad.numpy(), name="a.in_proj_bias", tolerance=1e-4)
    assert count.anatomy == ZeroAnatomy(expected=8)


@pytest.mark.parametrize(
    "dtype",
    [
        *(np.float16, np.float32, np.float64, np.longdouble, np.complex64, np.complex128),
        *(ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2),
    ],
)
def test_every_floating_type_is_counted(dtype: Any) -> None:
    count = zero_count(np.array([[1, 2], [-0.0, 3], [0, 2]]).astype(dtype), name="w")
    assert (count.num_zero, count.num_exact_zero, count.num_nonfinite) == (2, 2, 0)
    assert count.norm == pytest.approx(math.sqrt(18))
    assert count.max_abs == 3


def test_complex_numbers_are_measured_by_their_size() -> None:
    count = zero_count(np.array([3e38 + 3e38j, 1e-9j, complex(math.nan, 1)], np.complex64), name="w")
    assert (count.num_zero, count.num_exact_zero, count.num_nonfinite) == (1, 0, 1)
    assert count.norm == pytest.approx(3e38 * math.sqrt(2), rel=1e-5)


def test_the_tolerance_is_not_rounded_up_to_the_gradients_type() -> None:
    above = np.nextafter(np.float32(1e-3), np.float32(1))
    assert float(np.float32(1e-3)) > 1e-3
    gradient = np.array([np.float32(1e-3), above, np.nextafter(np.float32(1e-3), np.float32(0))])
    assert zero_count(gradient, name="b", tolerance=1e-3).num_zero == 1
    assert zero_count(np.array([6e-8], np.float16), name="b", tolerance=3e-8).num_zero == 0


def test_huge_and_tiny_values_have_a_norm() -> None:
    assert zero_count(np.full(4, 1e300), name="b").norm == pytest.approx(2e300)
    assert zero_count(np.full(4, 1e-300), name="b", tolerance=0).norm == pytest.approx(2e-300)
    beyond = zero_count(np.full(4, 1.7e308), name="b")
    assert (beyond.norm, beyond.max_abs) == (None, 1.7e308)


def test_nothing_finite_has_no_norm_and_nothing_at_all_no_fraction() -> None:
    lost = zero_count(np.array([math.nan, math.inf]), name="b")
    assert (lost.norm, lost.max_abs, lost.num_nonfinite) == (None, None, 2)
    assert unexpected_fraction(lost) is None
    nothing = zero_count(np.zeros((0, 3), np.float32), name="w")
    assert (nothing.num_elements, nothing.norm, nothing.anatomy) == (0, None, ZeroAnatomy())
    assert unexpected_fraction(nothing) is None


def test_a_zero_gradient_has_norm_zero_and_one_number_is_a_whole_layer() -> None:
    count = zero_count(np.array(0.0), name="log_ent_coef")
    assert (count.norm, count.max_abs, count.anatomy) == (0.0, 0.0, ZeroAnatomy(whole_layer=1))


def test_views_count_like_their_copies() -> None:
    gradient = np.random.default_rng(0).normal(size=(6, 8, 3)).astype(np.float32)
    gradient[2] = 0
    for view in (gradient.T, gradient[::2, ::-1], np.broadcast_to(gradient[:1], (5, 8, 3))):
        assert zero_count(view, name="w") == zero_count(np.ascontiguousarray(view), name="w")


def test_several_batches_share_one_fraction() -> None:
    count = ZeroCount(
        num_elements=10,
        num_zero=12,
        num_exact_zero=12,
        num_nonfinite=0,
        norm=1.0,
        max_abs=1.0,
        anatomy=ZeroAnatomy(expected=2, dead_unit=10),
    )
    assert unexpected_fraction(count, num_batches=4) == 0.25
