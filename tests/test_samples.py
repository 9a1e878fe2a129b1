"""Every committed sample's verdict, and silence on the healthy twin."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_cli import gradscope

from gradscope.run import open_run
from gradscope.run.together import timeline_series

SAMPLES = Path(__file__).parent.parent / "sample_checkpoints"
PROJECTION = "q_net.features_extractor.temporal_projection.weight"
POOLING = "q_net.features_extractor.pooling"


@cache
def document(command: str, sample: str, *options: str) -> dict[str, Any]:
    done = gradscope(command, str(SAMPLES / sample), "--json", *options, directory=SAMPLES.parent)
    assert done.code == 0, done.err
    return dict(json.loads(done.out))


def layer_by_step(sample: str, name: str) -> dict[int, dict[str, Any]]:
    return {
        snapshot["step"]: layer
        for snapshot in document("scan", sample)["snapshots"]
        for layer in snapshot["layers"]
        if layer["name"] == name
    }


def activity(sample: str) -> dict[int, float]:
    return {each["step"]: each["position_activity"] for each in document("scan", sample)["snapshots"]}


@pytest.mark.parametrize("sample", ["collapse", "healthy", "confounded"])
def test_every_file_of_a_sample_is_read_and_joined(sample: str) -> None:
    found = document("scan", sample)
    assert found["unreadable"] == []
    assert found["slices_from"] == "recorded"
    assert all(each["origin"] == "stored" and each["gradient_source"] for each in found["snapshots"])
    assert len(found["snapshots"]) == len(found["replays"]) <= 6
    assert len(found["timelines"]) == 1


@pytest.mark.parametrize("sample", ["collapse", "healthy", "confounded"])
def test_anatomy_adds_up_everywhere(sample: str) -> None:
    for snapshot in document("scan", sample)["snapshots"]:
        for layer in snapshot["layers"]:
            if layer["anatomy"] is not None:
                assert sum(layer["anatomy"].values()) == layer["num_zero"]


def test_collapse_is_the_cases_timeline() -> None:
    active = activity("collapse")
    zeros = {step: layer["zero_fraction"] for step, layer in layer_by_step("collapse", PROJECTION).items()}
    before = [zeros[step] for step in zeros if not active[step]]
    after = [zeros[step] for step in sorted(zeros) if active[step]]
    assert before
    assert max(before) < 0.10
    first = next(place for place, fraction in enumerate(after) if fraction >= 0.25)
    assert max(after[first + 1 :]) >= 0.50


def test_collapse_is_dead_units_and_the_last_layer_still_learns() -> None:
    layers = layer_by_step("collapse", PROJECTION)
    worst = max(layers.values(), key=lambda layer: layer["zero_fraction"])
    assert worst["anatomy"]["dead_unit"] > 0.5 * worst["num_zero"]
    last = document("scan", "collapse")["snapshots"][-1]["layers"][-1]
    assert last["zero_fraction"] < 0.5
    assert last["norm"] > 0


def test_collapse_crosses_critical_and_collapse_at_the_projection() -> None:
    crossed = {
        each["limit"]: each["step"]
        for each in document("scan", "collapse")["crossings"]
        if each["layer"] == PROJECTION
    }
    assert {"critical", "collapse"} <= set(crossed)
    assert crossed["critical"] <= crossed["collapse"]


def test_collapse_timeline_has_three_levels_after_opening() -> None:
    opened = open_run(SAMPLES / "collapse")
    series = timeline_series(opened.runs[0].files.timelines[0], opened.settings)
    zeros = series.fractions[PROJECTION]
    before = zeros[series.activity == 0]
    after = zeros[series.activity > 0]
    assert before.max() < 0.10
    assert len(set(np.round(after, 2))) >= 3
    assert after[-1] > 0.5


@pytest.mark.parametrize("sample", ["collapse", "healthy"])
def test_correlate_uses_the_timeline_and_without_consent_claims_no_cause(sample: str) -> None:
    found = document("correlate", sample)
    assert found["source"] == "timeline"
    assert found["num_steps"] > 100
    assert "causal" not in found["verdict"]
    assert found["effects"] == []
    assert "--trust" in found["reasons"]["effects"]


TRUSTED = ("--trust", "--code", str(SAMPLES))


def effects(found: dict[str, Any], intervention: str) -> list[dict[str, Any]]:
    return [each for each in found["effects"] if each["intervention"] == intervention]


def test_collapse_zeros_go_where_positions_are_flat_or_small_and_stay_where_they_are_moved() -> None:
    found = document("correlate", "collapse", *TRUSTED)
    projected = {
        (each["step"], each["intervention"]): each for each in found["effects"] if each["layer"] == PROJECTION
    }
    for step, zeros in ((8000, 0.455), (10_000, 0.555)):
        for intervention in ("flat", "rescaled"):
            one = projected[step, intervention]
            assert one["zero_fraction"] == pytest.approx(zeros, abs=0.05)
            assert one["zero_fraction_after"] < 0.01
            assert one["verdict"] == "effect"
            assert one["interval"][1] < -0.3
        assert projected[step, "permuted"]["zero_fraction_after"] > zeros - 0.1
        assert projected[step, "flat"]["mechanical_difference"] > 0.3
    assert "the size of the values of 'position' causes them" in found["reason"]
    rows = [each for each in found["effects"] if each["intervention"].endswith("rows")]
    assert rows
    assert all(each["reasons"]["difference"] for each in rows)


def test_healthy_has_no_effect() -> None:
    found = document("correlate", "healthy", *TRUSTED)
    known = [each for each in found["effects"] if each["difference"] is not None]
    assert len(known) == 3
    assert {each["verdict"] for each in known} == {"no effect"}
    assert found["verdict"] == "not associated"
    assert "causes" not in found["reason"]


def test_confounded_zeros_stay_whatever_is_done_to_positions() -> None:
    found = document("correlate", "confounded")
    assert found["verdict"] == "associated, no effect found"
    for intervention in ("flat", "permuted", "rescaled"):
        actors = [each for each in effects(found, intervention) if each["layer"].startswith("actor.")]
        assert {each["step"] for each in actors} == {6000, 10_000}
        assert {each["zero_fraction_after"] for each in actors} == {1.0}
        assert {each["verdict"] for each in actors} == {"no effect"}
    assert "No change of 'position' takes most zeros of any layer away" in found["reason"]


def test_collapse_zeros_go_with_positions_but_follow_them_late() -> None:
    """They rise only when the last rows without positions have left the buffer, 2,000 steps later."""
    found = document("correlate", "collapse")
    projection = next(each for each in found["layers"] if each["name"] == PROJECTION)
    assert projection["pearson"] > 0.5
    assert projection["change_step"] > found["activity_change_step"] + 500
    assert found["verdict"] == "not associated"
    assert "does not show that they are unrelated" in found["reason"]


def test_collapse_inputs_show_a_scale_mismatch() -> None:
    steps = document("shift", "collapse")["steps"]
    position = [each for step in steps for each in step["slices"] if each["name"] == "position"]
    market = [each for step in steps for each in step["slices"] if each["name"] == "market"]
    assert position[-1]["rms_ratio"] > 10
    assert position[-1]["status"] == "critical"
    assert all(each["rms_ratio"] < 10 for each in market if each["rms_ratio"] is not None)


def test_healthy_is_silent_with_positions_active() -> None:
    active = activity("healthy")
    zeros = {step: layer["zero_fraction"] for step, layer in layer_by_step("healthy", PROJECTION).items()}
    assert max(active.values()) > 0.5
    assert max(zeros.values()) < 0.10
    done = gradscope("scan", str(SAMPLES / "healthy"), "--fail-on", "critical", directory=SAMPLES.parent)
    assert done.code == 0
    assert document("correlate", "healthy")["verdict"] == "not associated"


def test_confounded_zeros_rise_with_positions() -> None:
    active = activity("confounded")
    zeros = {each["step"]: each["zero_fraction"] for each in document("scan", "confounded")["snapshots"]}
    before = [zeros[step] for step in zeros if not active[step]]
    after = [zeros[step] for step in zeros if active[step]]
    assert max(after) > max(before) + 0.2
    found = document("correlate", "confounded")
    assert found["source"] == "timeline"
    assert found["verdict"].startswith("associated")
    steps = document("shift", "confounded")["steps"]
    assert all(
        each["rms_ratio"] is None or each["rms_ratio"] < 10
        for step in steps
        for each in step["slices"]
        if each["name"] == "position"
    )


@pytest.mark.parametrize("sample", ["collapse", "healthy", "confounded"])
@pytest.mark.parametrize("width", [80, 120])
def test_report_fits_the_terminal(sample: str, width: int) -> None:
    done = gradscope("report", str(SAMPLES / sample), directory=SAMPLES.parent, width=width)
    assert done.code == 0
    assert max(len(line) for line in done.out.splitlines()) <= width
