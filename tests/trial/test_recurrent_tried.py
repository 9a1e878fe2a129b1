"""Every remedy on a recurrent policy: what helps a scale mismatch of PPO helps RecurrentPPO's, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from run.causes import POSITION, rollout_run

from gradscope.records import TrialVerdict, TryReport
from gradscope.run import open_run
from gradscope.settings import Settings
from gradscope.trial import arms, tried

if TYPE_CHECKING:
    from pathlib import Path

SLICES = {"market": (f"0:{POSITION}",), "position": (f"{POSITION}:{POSITION + 1}",)}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> TryReport:
    """Positions of 300 beside a market of 1: the LSTM's gates stand at their ends."""
    folder: Path = rollout_run(tmp_path_factory.mktemp("recurrent"), size=300.0, seed=3, is_recurrent=True)
    settings = Settings(slices=SLICES, slices_from="option")
    return tried(open_run(folder, settings=settings), from_step=120, gradient_steps=55, seeds=2)


def test_a_norm_in_front_helps_where_the_size_of_an_input_makes_the_zeros(report: TryReport) -> None:
    none, normalizer = report.trials[:2]
    assert none.zero_fraction is not None
    assert none.zero_fraction > 0.5
    assert normalizer.verdict is TrialVerdict.HELPS
    assert normalizer.zero_fraction is not None
    assert normalizer.zero_fraction < 0.25
    gates = {each.name: each for each in normalizer.layers}["lstm_actor.weight_hh_l0"]
    assert gates.difference is not None
    assert gates.difference < -0.5


def test_every_remedy_is_tried_or_says_why_not(report: TryReport) -> None:
    assert [each.remedy for each in report.trials] == list(arms.REMEDIES)
    refused = {each.remedy: each.reasons["verdict"] for each in report.trials if each.zero_fraction is None}
    assert list(refused) == ["input-layer-norm"]
    assert "single column" in refused["input-layer-norm"]
    assert any("LSTM's states" in note for note in report.notes)
