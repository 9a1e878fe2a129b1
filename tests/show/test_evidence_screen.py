"""The screen of optimizer evidence, and evidence in JSON and back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from golden_files import assert_golden
from makers import HOSTILE, layer, report, snapshot
from rich.cells import cell_len

from gradscope.errors import UsageError
from gradscope.records import LayerGradient, OptimizerEvidence, Origin, Report
from gradscope.show.evidence_screen import add_evidence
from gradscope.show.json_document import as_json, report_from, scan_document
from gradscope.show.screen import Look, Page

WELL = {
    "never_trained_fraction": 0.0,
    "never_trained_rows": 0,
    "never_trained_columns": 0,
    "silent_updates": 0,
    "silent_at_least": 0,
    "silent_at_most": 23,
    "silent_rows": 0,
    "silent_columns": 0,
    "num_updates": 12_345_678,
    "reasons": {"activity_rate": "not testable: needs a gradient"},
}
FLAT = {"never_trained_fraction": 0.0457, "never_trained_columns": 7, "silent_rows": 34}
GONE = {"silent_updates": 300, "silent_at_least": 276, "silent_at_most": 323, "silent_rows": 128}
LONG = {
    **dict.fromkeys(("silent_updates", "silent_at_most", "silent_rows", "silent_columns")),
    "silent_at_least": 834,
}


def told(name: str, changes: dict[str, Any] | None = None, **more: Any) -> LayerGradient:
    evidence = OptimizerEvidence(**{**WELL, **(changes or {})})
    return layer(name, **{"origin": Origin.OPTIMIZER, "num_zero": 0, "optimizer": evidence} | more)


def untold(name: str, reason: str) -> LayerGradient:
    why = f"not testable: {reason}"
    keys = ("never_trained_fraction", "silent_at_least", "silent_rows")
    return layer(name, optimizer=OptimizerEvidence(reasons=dict.fromkeys(keys, why)))


def evidence_report(*layers: LayerGradient, **changes: Any) -> Report:
    last = snapshot(6000, origin=Origin.OPTIMIZER, layers=layers, zero_fraction=None, **changes)
    return report(snapshots=(replace(last, step=4000, layers=(told("old", GONE),)), last))


WHOLE = evidence_report(
    told("actor.features_extractor.temporal_projection.weight", FLAT),
    told("actor.mu.weight", GONE),
    told("actor.mu.bias", LONG, shape=(128,)),
    told("critic.qf0.0.weight"),
    untold("critic.qf1.0.weight", "amsgrad"),
    layer("log_ent_coef", reasons={"optimizer": "the optimizer has not stepped"}),
)


def screen(of: Report, width: int = 80, run: str = ".") -> str:
    page = Page(Look(width=width))
    add_evidence(page, of, run)
    return page.text()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_screen_is_as_it_was_looked_at(width: int) -> None:
    text = screen(WHOLE, width)
    assert_golden(f"evidence_{width}.txt", text)
    assert max(cell_len(line) for line in text.splitlines()) <= width


def test_the_screen_says_that_these_are_no_gradients() -> None:
    text = " ".join(screen(WHOLE).split())
    assert "at step 6,000" in text
    assert "It holds averages of past gradients, no gradients." in text
    assert "a gradient that shrank fast looks alike" in text
    assert "old" not in text.split()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_number_is_cut(width: int) -> None:
    text = screen(WHOLE, width)
    for words in ("4.6 %", "276 to 323", "> 834", " no"):
        assert words in text
    for words in ("7 inputs never trained", "34 units silent", "128 units silent"):
        assert all(word in text for word in words.split())


def test_the_worst_comes_first_and_the_rest_is_counted() -> None:
    lines = screen(WHOLE, 120).splitlines()
    order = [
        next(at for at, line in enumerate(lines) if name in line) for name in ("mu.weight", "projection")
    ]
    assert order == sorted(order)
    assert not any("critic.qf0" in line for line in lines)
    assert any(line.startswith("1 other layer: every weight was trained") for line in lines)
    many = evidence_report(*(told(f"layer{number}.weight", GONE) for number in range(20)))
    assert "and 12 more; --json lists them all" in screen(many)


def test_a_run_in_which_all_is_well_says_so() -> None:
    text = " ".join(screen(evidence_report(told("a.weight"), told("b.weight"))).split())
    assert "2 layers: every weight was trained at some time, and no layer" in text
    assert "never trained:" not in text


def test_reasons_are_counted_and_the_most_frequent_first() -> None:
    layers = [untold(f"{number}.weight", "amsgrad") for number in range(3)]
    layers += [untold(f"x{number}", f"reason {number}") for number in range(4)]
    lines = screen(evidence_report(*layers)).splitlines()
    reasons = [line for line in lines if line.startswith("·")]
    assert reasons[0] == "· not testable: amsgrad (3 layers)"
    assert len(reasons) == 4
    assert reasons[-1] == "· and 2 more reasons; --json lists them"


def test_without_any_state_only_the_reason_stands() -> None:
    bare = layer("w", reasons={"optimizer": "the file holds no optimizer state"})
    text = screen(report(snapshots=(snapshot(layers=(bare, bare)),)))
    why = "the file holds no optimizer state (2 layers)"
    assert " ".join(text.split()) == f"· no evidence from optimizers at step 6,000: {why}"


def test_the_share_active_stands_where_it_is_known() -> None:
    known = screen(evidence_report(told("a.weight", {**GONE, "activity_rate": 0.25, "reasons": {}})), 120)
    assert "share active" in known
    assert "25.0 %" in known
    assert "share active" not in screen(WHOLE, 200)


def test_hostile_names_and_reasons_stay_on_their_line() -> None:
    layers = (told(HOSTILE, GONE), untold("w", HOSTILE))
    for look in (Look(width=80), Look(width=80, ascii_only=True)):
        page = Page(look)
        add_evidence(page, evidence_report(*layers, source=HOSTILE), ".")
        assert "\x1b" not in page.text()
        assert "\u202e" not in page.text()
    assert page.text().isascii()


def test_evidence_is_written_and_read_again() -> None:
    document = json.loads(as_json(scan_document(WHOLE)))
    (first, *_, last) = document["snapshots"][-1]["layers"]
    assert first["optimizer"] == vars(WHOLE.snapshots[-1].layers[0].optimizer)
    assert set(first["optimizer"]) >= {"never_trained_fraction", "silent_updates", "activity_rate", "reasons"}
    assert last["optimizer"] is None
    assert last["reasons"]["optimizer"] == "the optimizer has not stepped"
    again = report_from(document, "results.json")
    assert again.snapshots[-1].layers[0] == WHOLE.snapshots[-1].layers[0]
    assert screen(again, 120) == screen(WHOLE, 120)


@pytest.mark.parametrize(
    ("key", "value"),
    [("silent_rows", "many"), ("never_trained_fraction", True), ("reasons", []), ("num_updates", 2**70)],
)
def test_damaged_evidence_is_a_damaged_document(key: str, value: object) -> None:
    document = json.loads(as_json(scan_document(WHOLE)))
    document["snapshots"][-1]["layers"][0]["optimizer"][key] = value
    with pytest.raises(UsageError, match="damaged"):
        report_from(document, "results.json")


def test_documents_of_before_evidence_was_measured_are_read() -> None:
    document = json.loads(as_json(scan_document(WHOLE)))
    document["snapshots"][-1]["layers"][0]["optimizer"] = {"activity_rate": 0.5}
    found = report_from(document, "results.json").snapshots[-1].layers[0].optimizer
    assert found == OptimizerEvidence(activity_rate=0.5)
    assert "?" in screen(report_from(document, "results.json"), 120) or found.silent_at_least is None
