"""Against numpy over all rows at once; what rests at 0 stays 0; nothing poisons the statistics."""

from __future__ import annotations

import copy
import pickle
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradscope.errors import UsageError
from gradscope.remedy import SliceNormalizer

torch.set_num_threads(1)
SLICES = {"position": "3:5"}
"""Of five columns; the first three are the market."""


def bars(rows: int, *, seed: int = 0, active: float = 0.2, size: float = 500.0) -> np.ndarray:
    """A price far from 0, a return, a flag that is seldom 1, and two position columns that mostly rest."""
    draw = np.random.default_rng(seed)
    is_open = draw.random((rows, 1)) < active
    price = 40_000 + draw.normal(size=(rows, 1))
    flag = draw.random((rows, 1)) < 0.1
    held = is_open * draw.normal(size=(rows, 2)) * size
    return np.hstack([price, draw.normal(size=(rows, 1)), flag, held]).astype(np.float32)


def normalised_by_hand(seen: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Two passes over everything seen, column by column."""
    out = np.empty(new.shape)
    for column in range(seen.shape[1]):
        past = seen[:, column].astype(np.float64)
        active = past[past != 0]
        if column < 3 and len(active) > len(past) / 2:
            center, spread = past.mean(), past.std()
        else:
            center, spread = 0.0, np.sqrt((active**2).mean())
        mix = 0.1 if column >= 3 else 1.0
        out[:, column] = mix * np.clip((new[:, column] - center) / spread, -10, 10)
    return out


def trained(batches: list[np.ndarray], **options: Any) -> SliceNormalizer:
    module = SliceNormalizer(5, SLICES, **options)
    for batch in batches:
        module(torch.from_numpy(batch))
    return module.eval()


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_any_cut_into_batches_gives_the_statistics_of_all_rows(cuts: list[int], seed: int) -> None:
    rows = bars(sum(cuts) + 50, seed=seed)
    batches = np.split(rows, np.cumsum(cuts))
    new = bars(30, seed=seed + 1)
    ours = trained(batches)(torch.from_numpy(new)).numpy()
    np.testing.assert_allclose(ours, normalised_by_hand(rows, new), rtol=2e-4, atol=5e-3)


def test_variance_survives_a_mean_that_is_a_hundred_million_times_as_large() -> None:
    draw = np.random.default_rng(0)
    rows = 1e8 + draw.normal(size=(4000, 2))
    module = SliceNormalizer(2, {"market": ":"}).double()
    for batch in np.split(rows, 40):
        module(torch.from_numpy(batch))
    np.testing.assert_allclose(module.running_var.numpy(), rows.var(axis=0), rtol=1e-6)
    np.testing.assert_allclose(module.running_mean.numpy(), rows.mean(axis=0), rtol=1e-14)


def test_a_resting_slice_is_exactly_zero_and_so_is_its_gradient_column() -> None:
    module = trained([bars(200)]).train()
    resting = torch.from_numpy(bars(64, active=0.0))
    layer = torch.nn.Linear(5, 3)
    out = module(resting)
    layer(out).square().sum().backward()
    assert (out[:, 3:] == 0).all()
    assert layer.weight.grad is not None
    assert (layer.weight.grad[:, 3:] == 0).all()
    assert (layer.weight.grad[:, :2] != 0).all()


def test_a_rare_value_is_no_outlier() -> None:
    """All rows' deviation would make a value that is there in 0.1 % of rows 31.6 deviations."""
    rows = np.zeros((10_000, 5), np.float32)
    rows[::1000, 3] = 700
    out = trained([rows], mix={})(torch.from_numpy(rows)).numpy()
    assert out[::1000, 3] == pytest.approx(1.0)
    assert (rows[0, 3] - rows[:, 3].mean()) / rows[:, 3].std() == pytest.approx(31.6, abs=0.1)


def test_without_statistics_the_scale_is_one_and_the_mix_holds() -> None:
    rows = torch.tensor([[1.0, -2.0, 3.0, 4.0, -5.0]])
    fresh = SliceNormalizer(5, SLICES).eval()
    assert torch.equal(fresh(rows), rows * torch.tensor([1, 1, 1, 0.1, 0.1]))
    assert fresh(100 * rows)[0].tolist() == pytest.approx([10, -10, 10, 1, -1])
    unclipped = SliceNormalizer(5, SLICES, clip=None, mix={"market": 2, "position": 0.5}).eval()
    assert unclipped(100 * rows)[0].tolist() == pytest.approx([200, -400, 600, 200, -250])


def test_the_first_batch_with_open_positions_is_already_normalised() -> None:
    module = trained([bars(64, active=0.0)]).train()
    out = module(torch.from_numpy(bars(64, active=1.0, size=1e6)))
    assert out[:, 3:].square().mean().sqrt().item() == pytest.approx(0.1, rel=1e-5)


def test_evaluation_changes_nothing() -> None:
    module = trained([bars(50)])
    before = copy.deepcopy(module.state_dict())
    module(torch.from_numpy(bars(50, seed=3)))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200, -1e160])
def test_what_cannot_be_squared_does_not_poison_the_statistics(bad: float) -> None:
    clean = bars(100).astype(np.float64)
    dirty = np.vstack([clean, np.full((3, 5), bad)])
    module = trained([dirty])
    oracle = trained([clean])
    for name, value in module.state_dict().items():
        assert torch.equal(value, oracle.state_dict()[name]), name
    out = module(torch.from_numpy(dirty))
    assert torch.isfinite(out[:100]).all()
    assert torch.isnan(out[100:]).all() == np.isnan(bad)
    assert out[100:].nan_to_num(0).abs().max() <= 10


def test_float32_statistics_do_not_overflow_either() -> None:
    rows = np.full((8, 5), 3e38, np.float32)
    module = trained([rows, bars(100)], dtype=torch.float32)
    assert all(torch.isfinite(value).all() for value in module.state_dict().values())
    assert torch.equal(module.running_num_rows, torch.full((5,), 100.0))


def test_batches_without_rows_and_columns_without_a_finite_value_are_no_news() -> None:
    module = SliceNormalizer(5, SLICES)
    assert module(torch.empty(0, 5)).shape == (0, 5)
    module(torch.full((4, 5), torch.nan))
    assert not any(value.any() for value in module.state_dict().values())
    assert torch.equal(module.eval()(torch.ones(1, 5)), torch.tensor([[1.0, 1, 1, 0.1, 0.1]]))


def test_a_constant_column_is_not_blown_up() -> None:
    rows = np.full((1000, 5), 0.1) * np.array([1, 1e6, 1e-3, 1, 1])
    out = trained(np.split(rows, 7 * np.arange(1, 100)))(torch.from_numpy(rows))
    assert out[:, :3].abs().max() < 1e-2


@given(st.floats(1e-3, 1e6), st.integers(0, 20))
@settings(max_examples=20, deadline=None)
def test_the_unit_of_a_column_does_not_matter(unit: float, seed: int) -> None:
    rows = bars(100, seed=seed).astype(np.float64)
    out = [trained([each])(torch.from_numpy(each)).numpy() for each in (rows, rows * unit)]
    np.testing.assert_allclose(out[0], out[1], rtol=1e-6, atol=1e-7)


@given(st.permutations(range(60)))
@settings(max_examples=10, deadline=None)
def test_the_order_of_rows_does_not_matter(order: list[int]) -> None:
    rows = bars(60).astype(np.float64)
    one, other = trained([rows]), trained([rows[order]])
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-12, atol=1e-12)


def test_flat_observations_are_bars_and_every_bar_is_a_row() -> None:
    rows = bars(120)
    plain = trained([rows])
    flat = trained([rows.reshape(30, 20)], sequence_length=4)
    three = trained([rows.reshape(30, 4, 5)])
    expected = plain(torch.from_numpy(rows))
    out = flat(torch.from_numpy(rows.reshape(30, 20)))
    assert out.shape == (30, 20)
    assert torch.equal(out.reshape(120, 5), expected)
    assert torch.equal(three(torch.from_numpy(rows.reshape(30, 4, 5))).reshape(120, 5), expected)
    with pytest.raises(UsageError, match="not 4 x 5"):
        flat(torch.zeros(2, 5))


def test_a_slice_may_have_one_spread_for_all_its_columns() -> None:
    rows = bars(300)
    rows[:, 4] *= 3
    module = trained([rows], per="slice", mix={})
    held = rows[:, 3:].astype(np.float64)
    spread = np.sqrt((held[held != 0] ** 2).mean())
    out = module(torch.from_numpy(rows))[:, 3:].numpy()
    np.testing.assert_allclose(out, np.clip(held / spread, -10, 10), rtol=1e-5)
    # A column of the slice that was never active takes the scale of the others.
    rows[:, 4] = 0
    late = trained([rows], per="slice", mix={})
    alone = rows[:, 3].astype(np.float64)
    new = torch.tensor([[0.0, 0, 0, 0, 100]])
    assert late(new)[0, 4].item() == pytest.approx(100 / np.sqrt((alone[alone != 0] ** 2).mean()), rel=1e-5)


def test_momentum_is_that_of_batch_norm_in_the_long_run_but_starts_with_the_first_batch() -> None:
    module = SliceNormalizer(1, {"market": ":"}, momentum=0.1)
    module(torch.tensor([[5.0], [7.0]]))
    assert module.running_mean.item() == 6
    for _ in range(400):
        module(torch.tensor([[1.0], [3.0]]))
    module(torch.tensor([[11.0], [13.0]]))
    assert module.running_mean.item() == pytest.approx(0.9 * 2 + 0.1 * 12)


def test_momentum_does_not_forget_the_spread_of_a_slice_that_rests_for_long() -> None:
    module = SliceNormalizer(5, SLICES, momentum=0.5)
    module(torch.from_numpy(bars(50, active=1.0)))
    before = module.running_mean_square.clone()
    for _ in range(1200):
        module(torch.zeros(2, 5))
    assert torch.equal(module.running_mean_square[3:], before[3:])
    again = bars(50, seed=1, active=1.0, size=5000.0)
    module(torch.from_numpy(again))
    weighted = (before[3:] + 2 * torch.from_numpy(again[:, 3:]).double().square().mean(dim=0)) / 3
    torch.testing.assert_close(module.running_mean_square[3:], weighted)


def test_which_slices_are_centered_is_the_user_s_choice() -> None:
    rows = bars(200, active=1.0)
    new = torch.from_numpy(rows)
    untouched = trained([rows], centered=())(new)
    assert (untouched[:, 0] - 1).abs().max() < 1e-3
    assert trained([rows])(new)[:, 0].mean().abs() < 1e-2
    held = trained([rows + np.float32(1e4)], centered=["position"], mix={})(new + 1e4)
    assert held[:, 3:].mean(dim=0).abs().max() < 1e-3
    assert trained([rows + np.float32(1e4)], mix={})(new + 1e4)[:, 3:].mean() > 0.9


def test_frozen_statistics_stand_still_column_by_column() -> None:
    module = SliceNormalizer(5, SLICES, freeze_after=100)
    module(torch.from_numpy(bars(150, active=0.0)))
    before = copy.deepcopy(module.state_dict())
    module(torch.from_numpy(bars(150, seed=1, active=1.0)))
    after = module.state_dict()
    assert torch.equal(before["running_mean"], after["running_mean"])
    assert torch.equal(before["running_var"], after["running_var"])
    assert (after["running_mean_square"][3:] > 0).all()
    third = copy.deepcopy(after)
    module(torch.from_numpy(bars(150, seed=2, active=1.0)))
    moved = [name for name, value in module.state_dict().items() if not torch.equal(value, third[name])]
    # The flag alone has not been active a hundred times.
    assert set(moved) <= {"running_num_active", "running_mean_square"}
    assert torch.equal(third["running_mean_square"][3:], module.running_mean_square[3:])


def test_state_dict_pickle_and_copy_bring_the_same_module() -> None:
    module = trained([bars(50)], sequence_length=None)
    rows = torch.from_numpy(bars(9, seed=2))
    loaded = SliceNormalizer(5, SLICES).eval()
    assert loaded.load_state_dict(module.state_dict(), strict=True)
    assert all(name.startswith("running_") for name in module.state_dict())
    assert not list(module.parameters())
    for twin in (loaded, pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
        assert torch.equal(twin(rows), module(rows))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_output_has_the_type_of_the_input_and_autocast_changes_nothing(dtype: torch.dtype) -> None:
    rows = torch.from_numpy(bars(64)).to(dtype)
    rows[:, 0] = torch.linspace(-1, 1, 64)
    plain, cast = SliceNormalizer(5, SLICES), SliceNormalizer(5, SLICES)
    out = plain(rows)
    half = torch.float16 if dtype == torch.float16 else torch.bfloat16
    with torch.autocast("cpu", dtype=half):
        assert torch.equal(cast(rows), out)
    assert out.dtype == dtype
    assert cast.running_var.dtype == torch.float64
    exact = SliceNormalizer(5, SLICES)(rows.double())
    torch.testing.assert_close(out.double(), exact, rtol=1e-2, atol=1e-2)
    assert SliceNormalizer(5, SLICES)(torch.ones(2, 5, dtype=torch.uint8)).dtype == torch.float32


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        ("aot_eager", {}),
        ("aot_eager", {"per": "slice", "momentum": 0.1}),
        ("aot_eager", {"clip": None, "freeze_after": 70}),
    ],
)
def test_compiled_whole_it_is_the_same(backend: str, options: dict[str, Any]) -> None:
    eager = SliceNormalizer(5, SLICES, sequence_length=4, **options)
    twin = copy.deepcopy(eager)
    compiled = torch.compile(twin, fullgraph=True, backend=backend)
    for seed in range(3):
        rows = torch.from_numpy(bars(32, seed=seed).reshape(8, 20)).requires_grad_()
        copied = rows.detach().clone().requires_grad_()
        ours, theirs = compiled(rows), eager(copied)
        torch.testing.assert_close(ours, theirs)
        ours.square().sum().backward()
        theirs.square().sum().backward()
        torch.testing.assert_close(rows.grad, copied.grad)
    assert twin.running_num_rows[0] > 64
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(twin.state_dict()[name], value)
    eager.eval(), twin.eval()
    torch.testing.assert_close(compiled(rows), eager(rows))


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a compiler")
def test_compiled_to_machine_code_it_is_the_same() -> None:
    eager = SliceNormalizer(5, SLICES)
    twin = copy.deepcopy(eager)
    rows = torch.from_numpy(bars(32))
    torch.testing.assert_close(torch.compile(twin, fullgraph=True)(rows), eager(rows))
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(twin.state_dict()[name], value)


def test_it_cannot_help_behind_a_normaliser_that_centers() -> None:
    rows = bars(2000, active=0.1)
    centered = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    out = trained([centered])(torch.from_numpy(centered))
    assert (out[torch.from_numpy(rows[:, 3] == 0), 3] != 0).all()


@pytest.mark.parametrize(
    "options",
    [
        {"mix": {"positions": 0.1}},
        {"centered": ["positions"]},
        {"per": "row"},
        {"momentum": 0.0},
        {"momentum": 0.1, "freeze_after": 10},
        {"freeze_after": 0},
        {"clip": 0.0},
        {"clip": float("nan")},
        {"eps": -1.0},
        {"sequence_length": 0},
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        SliceNormalizer(5, SLICES, **options)
