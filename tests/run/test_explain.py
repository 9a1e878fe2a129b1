"""The three sample runs, explained from their files."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradscope.errors import UsageError
from gradscope.records import Verdict
from gradscope.run import open_run, scan_opened, with_shift
from gradscope.run.explain import explanation
from gradscope.run.explain_numbers import past_steps, pushed_zeros
from gradscope.settings import Settings

if TYPE_CHECKING:
    from gradscope.records import Explanation, Finding, Report
    from gradscope.run import Opened

SAMPLES = Path(__file__).parent.parent.parent / "sample_checkpoints"
TRUSTED = Settings(trust=True, code=SAMPLES)


@cache
def opened(name: str, *, trust: bool = False) -> tuple[Report, Opened]:
    run = open_run(SAMPLES / name, settings=TRUSTED if trust else Settings())
    return with_shift(scan_opened(run), run), run


@cache
def explained(name: str, step: int | None = None, *, trust: bool = False) -> Explanation:
    return explanation(*opened(name, trust=trust), step=step)


def found(explanation: Explanation, code: str) -> Finding:
    return next(each for each in explanation.findings if each.code == code)


def supported(explanation: Explanation) -> list[str]:
    return [each.code for each in explanation.findings if each.verdict is Verdict.SUPPORTED]


def test_confounded_is_saturation_and_not_the_positions() -> None:
    why = explained("confounded")
    assert why.step == 10_000
    assert supported(why)[0] == "saturation"
    assert found(why, "saturation").share_of_zeros == pytest.approx(0.84, abs=0.01)
    assert "actor.mu.0.weight" in found(why, "saturation").layers
    for code in ("slice-is-cause", "domain-shift", "scale-mismatch", "explosion-clipping", "underflow"):
        assert found(why, code).verdict is Verdict.REJECTED, code
    assert "did shift" in found(why, "domain-shift").reason


def test_collapse_is_the_size_of_the_positions_and_not_clipping() -> None:
    why = explained("collapse", trust=True)
    assert supported(why) == ["scale-mismatch", "slice-is-cause", "dead-units", "expected-zeros"]
    assert found(why, "scale-mismatch").share_of_zeros == pytest.approx(0.997, abs=0.01)
    for code in ("saturation", "domain-shift", "explosion-clipping", "underflow", "never-trained"):
        assert found(why, code).verdict is Verdict.REJECTED, code
    assert "though the order fits" in found(why, "explosion-clipping").reason


def test_without_consent_collapse_still_has_dead_units_and_says_what_is_missing() -> None:
    why = explained("collapse")
    assert supported(why) == ["dead-units", "expected-zeros"]
    for code in ("slice-is-cause", "domain-shift", "scale-mismatch"):
        assert found(why, code).verdict is Verdict.NOT_TESTABLE, code
        assert "--trust" in found(why, code).what_to_do
    assert found(why, "saturation").verdict is Verdict.REJECTED


@pytest.mark.parametrize("step", [2000, 6000, 10_000])
def test_healthy_raises_nothing(step: int) -> None:
    assert supported(explained("healthy", step)) == ["expected-zeros"]


@pytest.mark.parametrize(("name", "step"), [("collapse", 4000), ("confounded", 4000)])
def test_before_anything_happened_nothing_is_raised(name: str, step: int) -> None:
    assert set(supported(explained(name, step))) <= {"expected-zeros"}


def test_a_step_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="2000, 4000, 6000"):
        explanation(*opened("confounded"), step=3)


def test_the_past_ends_at_the_step_and_holds_norms_and_zeros() -> None:
    report, run = opened("collapse")
    snapshot = next(each for each in report.snapshots if each.step == 8000)
    past = past_steps(report, run.runs[0], snapshot, run.settings)
    assert [each.step for each in past] == sorted({each.step for each in past})
    assert past[-1].step <= 8000
    assert max(each.norm_before_clip or 0 for each in past) > 10
    assert min(each.clip_coefficient or 1 for each in past) < 1
    assert (past[-1].zero_fraction or 0) > 0.3
    bare = replace(run.runs[0], files=replace(run.runs[0].files, timelines=[]))
    assert [each.step for each in past_steps(report, bare, snapshot, run.settings)] == [
        2000,
        4000,
        6000,
        8000,
    ]


def test_zeros_that_clipping_made_are_those_that_were_larger_before() -> None:
    report, run = opened("collapse")
    moment = next(each for each in run.runs[0].moments if each.step == 8000)
    snapshot = next(each for each in report.snapshots if each.step == 8000)
    name, recorded = "made.weight", moment.recorded
    assert recorded is not None
    layer = next(iter(recorded.layers.values()))
    values = np.array([0.0, 1e-9, 4e-9, 6e-9, 1e-8, 2e-8, -7e-9], np.float32)
    made = replace(recorded, layers={name: replace(layer, name=name, shape=values.shape, gradient=values)})
    halved = replace(snapshot, clip_coefficient=0.5)
    # Before: 0, 2e-9, 8e-9, 12e-9, 2e-8, 4e-8, -14e-9, of which three within 1e-8 were above it.
    assert pushed_zeros(replace(moment, recorded=made), halved, 1e-8) == {name: 3}
    assert pushed_zeros(moment, replace(snapshot, clip_coefficient=1.0), 1e-8) == {}
    unknown = replace(snapshot, clip_coefficient=None, reasons={"clip_coefficient": "nobody saw it"})
    assert pushed_zeros(moment, unknown, 1e-8) == "nobody saw it"
