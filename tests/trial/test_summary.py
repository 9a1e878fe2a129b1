"""Curves of several seeds become points, ends, crossings and a verdict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradscope.records import TrialVerdict
from gradscope.settings import Settings
from gradscope.trial.summary import trial
from gradscope.trial.training import Curve


def one(zeros: Any, losses: Any = None, **more: Any) -> Curve:
    values = np.asarray(zeros, dtype=np.float64)
    known = np.ones(len(values)) if losses is None else np.asarray(losses, dtype=np.float64)
    return Curve(zeros=values, layers={"first": values, "second": values / 4}, losses=known, **more)


RISING = np.linspace(0, 0.79, 80)


def test_the_end_is_the_last_quarter_and_points_are_means_of_their_steps() -> None:
    found = trial("none", {0: one(RISING), 1: one(RISING / 2)}, {}, Settings())
    assert found.zero_fraction == pytest.approx(np.mean([RISING[-20:].mean(), RISING[-20:].mean() / 2]))
    assert len(found.series) == 40
    assert [each.gradient_step for each in found.series[:3]] == [2, 4, 6]
    assert found.series[10].zero_fraction == pytest.approx(0.75 * RISING[20:22].mean())
    assert found.verdict is None


def test_crossings_are_the_first_points_at_a_limit() -> None:
    found = trial("none", {0: one(RISING)}, {}, Settings())
    crossed = {(each.layer, each.limit): each.gradient_step for each in found.crossings}
    # RISING is 0.01 a step; points hold two steps each.
    assert crossed == {
        ("first", "warn"): 12,
        ("first", "critical"): 28,
        ("first", "collapse"): 52,
        ("second", "warn"): 42,
    }


def test_differences_are_seed_by_seed_and_only_of_seeds_that_both_have() -> None:
    without = {seed: one(np.full(40, 0.5 + seed / 100)) for seed in range(3)}
    with_it = {seed: one(np.full(40, 0.1 + seed / 100)) for seed in range(2)}
    found = trial("input-layer-norm", with_it, without, Settings())
    assert found.difference == pytest.approx(-0.4)
    assert found.interval == pytest.approx((-0.4, -0.4))
    assert found.verdict is TrialVerdict.HELPS
    assert found.num_seeds == 2
    assert {each.name: each.difference for each in found.layers} == pytest.approx(
        {"first": -0.4, "second": -0.1}
    )


def test_seeds_that_trained_on_the_same_rows_are_one() -> None:
    without = {seed: one(np.full(40, 0.5)) for seed in range(3)}
    with_it = {seed: one(np.full(40, 0.1)) for seed in range(3)}
    found = trial("slice-normalizer", with_it, without, Settings(), is_one_batch=True)
    assert found.interval is None
    assert found.verdict is TrialVerdict.UNCLEAR
    assert "same rows" in found.reasons["interval"]


def test_a_loss_that_breaks_is_harm_and_no_zero() -> None:
    without = {seed: one(np.full(40, 0.5)) for seed in range(2)}
    broken = {seed: one(np.full(40, np.nan), np.full(40, np.nan), first_bad=7) for seed in range(2)}
    found = trial("recycle-dead-units", broken, without, Settings())
    assert found.verdict is TrialVerdict.HARMS
    assert found.zero_fraction is None
    assert found.loss is None
    assert found.reasons["loss"] == "the loss is not finite from gradient step 7 on"


def test_nothing_finished_is_said() -> None:
    found = trial("slice-learning-rate", {}, {0: one(RISING)}, Settings())
    assert found.verdict is None
    assert found.reasons["verdict"].startswith("interrupted")
