"""Batches repeated in float64, against the same losses written in float64 by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradscope.recompute.float64 import Float64, in_float64
from gradscope.recompute.trusted.model import RecomputedModel, recompute_model
from gradscope.run import open_run
from gradscope.run.given import Means
from gradscope.run.recomputed import recomputation
from gradscope.run.repeated import lost_fractions
from gradscope.settings import Settings

SAMPLES = Path(__file__).parents[2] / "sample_checkpoints"
SOURCE = """
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))

def small():
    model = net()

    def loss(batch):
        with torch.autocast("cpu", dtype=torch.float16):
            return 2e-8 * model(batch["x"]).float().square().mean()

    return model, loss

def half():
    model = net().half()
    return model, lambda batch: 2e-8 * model(batch["x"].half()).square().mean()

def strict():
    model = net()

    def loss(batch):
        if batch["x"].dtype != torch.float32 or model[0](batch["x"]).dtype != torch.float32:
            raise TypeError("float32 only")
        return model(batch["x"]).square().mean()

    return model, loss
"""


@pytest.fixture
def made(tmp_path: Path) -> Any:
    (tmp_path / "small_types.py").write_text(SOURCE)

    def make(name: str, dtype: Any = np.float32) -> RecomputedModel:
        draw = np.random.default_rng(3)
        shapes = {"0.weight": (16, 6), "0.bias": (16,), "2.weight": (1, 16), "2.bias": (1,)}
        weights = {key: (0.4 * draw.normal(size=shape)).astype(dtype) for key, shape in shapes.items()}
        rows = {"x": draw.normal(size=(64, 6)).astype(np.float32)}
        found = recompute_model(
            f"small_types:{name}", weights, rows, batches=2, batch_size=32, seed=1, code=tmp_path
        )
        assert isinstance(found, RecomputedModel), found
        return found

    return make


def by_hand(found: RecomputedModel, scale: float) -> dict[str, Any]:
    """The first batch's gradient of the same loss, every tensor float64."""
    (first, *_) = found.batches()
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1)).double()
    model.load_state_dict({name: each.double() for name, each in found._user.model.state_dict().items()})
    (scale * model(torch.tensor(first.observations["x"]).double()).square().mean()).backward()
    return {name: each.grad.numpy() for name, each in model.named_parameters()}


def test_autocast_that_underflows_is_seen_and_weights_stay_what_they_are(made: Any) -> None:
    found = made("small")
    before = {name: each.clone() for name, each in found._user.model.state_dict().items()}
    plain, wide = next(found.batches()), next(in_float64(found.batches()))
    exact = by_hand(found, 2e-8)
    assert (plain.gradients["0.weight"] == 0).mean() > 0.3
    for name, gradient in wide.gradients.items():
        np.testing.assert_allclose(gradient, exact[name], rtol=1e-5, atol=1e-20)
    after = found._user.model.state_dict()
    assert all(
        torch.equal(after[name], each) and after[name].dtype == each.dtype for name, each in before.items()
    )
    again = next(found.batches())
    assert all(np.array_equal(again.gradients[name], each) for name, each in plain.gradients.items())


def test_weights_of_16_bits_keep_the_range_of_their_gradients(made: Any) -> None:
    found = made("half", np.float16)
    plain, wide = next(found.batches()), next(in_float64(found.batches()))
    exact = by_hand(found, 2e-8)
    assert (plain.gradients["0.weight"] == 0).mean() > 0.3
    for name, gradient in wide.gradients.items():
        np.testing.assert_allclose(gradient, exact[name], rtol=1e-9)
    assert found._user.model[0].weight.dtype is torch.float16


def test_code_that_fixes_its_types_is_a_reason(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = made("strict")
    monkeypatch.setattr("gradscope.run.repeated.recomputation", lambda *_: found)
    told = lost_fractions(None, Means(settings=Settings()), ["0.weight"])  # type: ignore[arg-type]
    assert isinstance(told, str)
    assert "float32 only" in told


@pytest.mark.parametrize("run", ["confounded", "collapse"])
def test_gradients_of_real_runs_are_the_same_numbers_with_more_digits(run: str) -> None:
    """TD3 rebuilt from its weights, DQN through user code: 1e-5 is float32's rounding through the network."""
    settings = Settings(source="recomputed", batches=1, trust=run == "collapse", code=SAMPLES)
    opened = open_run(SAMPLES / run, settings=settings)
    found: Any = recomputation(opened.runs[0].moments[0], Means(settings=settings, given=opened.given))
    plain, wide = next(found.batches()), next(in_float64(found.batches()))
    for name, gradient in plain.gradients.items():
        other = wide.gradients[name]
        assert np.abs(gradient - other).max() <= 1e-5 * np.abs(other).max(), name
        assert not np.array_equal(gradient, other) or not gradient.any()
        assert np.array_equal(np.abs(gradient) <= 1e-8, np.abs(other) <= 1e-8), name


def test_types_asked_for_by_name_and_in_place_changes() -> None:
    start = torch.ones(3)
    with Float64():
        doubled = torch.zeros(3, dtype=torch.float16).half().to(torch.bfloat16) + start
        start.add_(doubled)
        noise = torch.empty(4, dtype=torch.float32).normal_(generator=torch.Generator().manual_seed(0))
    assert doubled.dtype is torch.float64
    assert start.dtype is torch.float32
    assert start.tolist() == [2, 2, 2]
    plain = torch.empty(4).normal_(generator=torch.Generator().manual_seed(0))
    assert torch.equal(noise.float(), plain)
