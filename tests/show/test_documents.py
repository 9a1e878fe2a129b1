from __future__ import annotations

import dataclasses
import io
import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from makers import CASE_LAYER, HOSTILE, association_report, layer, report, shift_report, snapshot

from gradscope.errors import UsageError
from gradscope.records import LayerGradient, Origin, ShiftReport, Status
from gradscope.show.frames import series_frame, shift_frame, to_csv, to_frame
from gradscope.show.json_document import (
    as_json,
    correlate_document,
    report_document,
    report_from,
    scan_document,
    shift_document,
)
from gradscope.show.markdown import correlate_markdown, markdown, shift_markdown

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradscope.records import Report

SNAPSHOT_KEYS = set(
    """run step step_from source gradient_source format origin num_batches batch_size seed num_elements
    num_zero num_exact_zero zero_fraction exact_zero_fraction num_nonfinite norm norm_before_clip
    clip_coefficient position_activity num_open_positions status reasons layers""".split()
)
LAYER_KEYS = set(
    """name shape dtype origin num_elements num_zero num_exact_zero num_nonfinite zero_fraction
    exact_zero_fraction interval baseline_zero_fraction norm max_abs status anatomy optimizer
    reasons""".split()
)
TOP_KEYS = set(
    """gradscope zero_tolerance limits slices slices_from snapshots crossings replays skipped
    unreadable""".split()
)
SLICE_KEYS = set(
    "name num_columns activity wasserstein wasserstein_max ks fraction_shifted rms rms_ratio status".split()
)
TOGETHER_KEYS = set("slice num_steps run series layers effects verdict reason".split())
EFFECT_KEYS = set(
    "step layer intervention zero_fraction zero_fraction_after difference mechanical_difference interval "
    "verdict".split()
)
ASSOCIATION_KEYS = set(
    "name num_steps pearson spearman p_value p_value_adjusted lag change_step verdict".split()
)


def test_scan_document_has_the_names_of_the_contract() -> None:
    document = json.loads(as_json(scan_document(report())))
    assert document["schema"] == "gradscope/scan/1"
    assert set(document) >= TOP_KEYS
    assert set(document["snapshots"][1]) >= SNAPSHOT_KEYS
    assert set(document["snapshots"][1]["layers"][0]) >= LAYER_KEYS
    assert document["snapshots"][1]["layers"][0]["anatomy"] == {
        "expected": 0,
        "whole_layer": 0,
        "dead_input": 896,
        "dead_unit": 4380,
        "scattered": 91,
    }
    assert document["crossings"] == [
        {"run": ".", "layer": CASE_LAYER, "limit": "critical", "step": 6000, "zero_fraction": 0.274}
    ]


def test_shift_and_correlate_documents_have_the_names_of_the_contract() -> None:
    shift = shift_document(report())
    assert shift["reference"] == {"run": ".", "source": "replay_4000.pkl", "step": 4000, "num_rows": 1000}
    assert set(shift["steps"][1]["slices"][0]) >= SLICE_KEYS
    together = correlate_document(report())
    assert together["schema"] == "gradscope/correlate/1"
    assert set(together) >= TOGETHER_KEYS
    assert set(together["effects"][0]) >= EFFECT_KEYS
    undone = together["effects"][-1]
    assert {key for key in EFFECT_KEYS if undone[key] is None} <= set(undone["reasons"])
    assert set(together["layers"][0]) >= ASSOCIATION_KEYS


def test_a_report_survives_the_way_through_json() -> None:
    before = report()
    after = report_from(json.loads(as_json(report_document(before))), "x.json")
    assert report_document(after) == report_document(before)
    alone = report_from(json.loads(as_json(scan_document(before))), "x.json")
    assert alone == dataclasses.replace(before, shift=None, associations=())


def test_nan_is_never_written() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        as_json(scan_document(report(zero_tolerance=float("nan"))))


@pytest.mark.parametrize("document", [{}, [], {"schema": "other/1"}, {"schema": "gradscope/scan/1"}, None, 3])
def test_foreign_and_damaged_documents_are_refused_in_one_line(document: object) -> None:
    with pytest.raises(UsageError) as caught:
        report_from(document, "x.json")  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def changed(value: object, *keys: str | int) -> dict[str, Any]:
    """The whole document with the value at ``keys`` replaced."""
    document: dict[str, Any] = json.loads(as_json(report_document(report())))
    inner: Any = document
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return document


@pytest.mark.parametrize(
    "document",
    [
        changed(3, "scan", "path"),
        changed({"warn": "a"}, "scan", "limits"),
        changed(["warn"], "scan", "limits"),
        changed({"*": {"warn": "a"}}, "scan", "layer_limits"),
        changed(1, "scan", "snapshots", 0, "run"),
        changed(True, "scan", "snapshots", 0, "step"),
        changed("6000", "scan", "snapshots", 0, "step"),
        changed(0.5, "scan", "snapshots", 0, "num_zero"),
        changed("a", "scan", "snapshots", 0, "zero_fraction"),
        changed(float("nan"), "scan", "snapshots", 0, "zero_fraction"),
        changed(10**400, "scan", "snapshots", 0, "norm"),
        changed(2**63, "scan", "snapshots", 0, "num_elements"),
        changed("abc", "scan", "snapshots"),
        changed(["abc"], "scan", "snapshots", 0, "layers"),
        changed(["a"], "scan", "snapshots", 0, "layers", 0, "shape"),
        changed([0.1], "scan", "snapshots", 0, "layers", 0, "interval"),
        changed(4, "scan", "snapshots", 0, "layers", 0, "anatomy"),
        changed(["one batch"], "scan", "snapshots", 0, "reasons"),
        changed({"clip_coefficient": 3}, "scan", "snapshots", 0, "reasons"),
        changed("purple", "scan", "snapshots", 0, "status"),
        changed(3, "scan", "snapshots", 0, "status"),
        changed("purple", "scan", "crossings", 0, "limit"),
        changed(7, "shift", "steps", 0, "slices", 0, "name"),
        changed([3], "correlate", 0, "series"),
        changed(3, "correlate"),
    ],
)
def test_values_of_another_type_are_refused_in_one_line(document: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="damaged gradscope/report/1 document") as caught:
        report_from(document, "x.json")
    assert "\n" not in str(caught.value)


def test_a_missing_reference_has_its_reason() -> None:
    nothing = ShiftReport(reasons={".": "no replay buffer"})
    document = shift_document(report(shift=nothing))
    assert document["reference"] is None
    assert document["reasons"]["reference"] == "no replay buffer"
    assert shift_document(report(shift=None))["reasons"]["reference"] == "no step has inputs"
    assert "reference" not in shift_document(report())["reasons"]


def test_frame_has_a_row_for_each_layer_and_missing_values_stay_missing() -> None:
    nothing = LayerGradient(name="b", shape=(3,), dtype="float32", origin=Origin.NONE, num_elements=3)
    frame = to_frame(report(snapshots=(snapshot(layers=(layer(), nothing)),)))
    assert list(frame["layer"]) == [CASE_LAYER, "b"]
    assert frame["zero_fraction"].isna().tolist() == [False, True]
    assert frame["zeros_dead_unit"].iloc[0] == 4380
    assert frame["status"].tolist() == [Status.CRITICAL.value, Status.UNKNOWN.value]


def test_fractions_are_written_alike_in_every_column() -> None:
    whole = layer(zero_fraction=1.0, baseline_zero_fraction=None)
    half = layer(zero_fraction=0.5, baseline_zero_fraction=1.0)
    snapshots = (snapshot(position_activity=1.0, layers=(whole, half)),)
    text = to_csv(to_frame(report(snapshots=snapshots)))
    rows = [line.split(",") for line in text.splitlines()]
    cells = {name: [row[place] for row in rows[1:]] for place, name in enumerate(rows[0])}
    assert cells["zero_fraction"] == ["1.0", "0.5"]
    assert cells["baseline_zero_fraction"] == ["", "1.0"]
    assert cells["position_activity"] == ["1.0", "1.0"]
    assert cells["num_elements"] == ["19584", "19584"]
    assert cells["step"] == ["6000", "6000"]


def test_csv_cannot_run_as_a_formula_and_reads_back() -> None:
    hostile = report(snapshots=(snapshot(source="=HYPERLINK(1)", layers=(layer(name=HOSTILE),)),))
    text = to_csv(to_frame(hostile))
    back = pd.read_csv(io.StringIO(text))
    assert back["source"].tolist() == ["'=HYPERLINK(1)"]
    assert "\x1b" not in text
    assert len(back) == 1


def test_other_frames_hold_columns_and_points() -> None:
    assert shift_frame(report())["wasserstein"].tolist() == [3.1]
    assert series_frame(report())["num_open_positions"].tolist() == [0, 77, 207]


def test_markdown_escapes_names() -> None:
    text = markdown(report(path=HOSTILE))
    assert "<script>" not in text
    assert "\x1b" not in text
    assert "| 6,000 | 81.0 % | 27.4 % |" in text


def test_markdown_of_shift_and_correlate_is_their_own_result() -> None:
    shifted = shift_markdown(report())
    assert "| 6,000 | 1,000 | position | 81.0 % | 3.10 | 100.0 % | 41.0 | 37.0 | critical |" in shifted
    assert "Not known" not in shifted
    missing = shift_markdown(report(shift=ShiftReport(reasons={".": "no replay buffer"})))
    assert "no shift: no replay buffer" in missing
    together = correlate_markdown(report())
    assert "**Associated and causal.**" in together
    assert "| 0.910 | 0.880 | 0.0110 | 5,000 | associated |" in together
    assert "| 6,000 | 81.0 % | 27.4 % |" in together
    assert "| flat | 27.4 % | 0.0 % | -27.4 | -28.4 to -26.4 | +40.0 | effect |" in together


@pytest.mark.parametrize("form", [shift_markdown, correlate_markdown])
def test_every_markdown_escapes_names(form: Callable[[Report], str]) -> None:
    together = dataclasses.replace(association_report(), run=HOSTILE, slice=HOSTILE, reason=HOSTILE)
    bad = dataclasses.replace(shift_report().steps[0], run=HOSTILE)
    shift = ShiftReport(steps=(bad,), reasons={HOSTILE: HOSTILE})
    text = form(report(path=HOSTILE, associations=(together,), shift=shift))
    assert "<script>" not in text
    assert "\x1b" not in text
