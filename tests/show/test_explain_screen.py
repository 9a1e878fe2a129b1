from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from fact_makers import (
    FIRST,
    SECOND,
    dead_network,
    facts,
    moved,
    one_effect,
    one_layer,
    one_snapshot,
    past,
    shut_network,
    units,
)
from golden_files import assert_golden
from makers import HOSTILE, report
from rich.cells import cell_len

from gradscope.judge.hypotheses import findings
from gradscope.records import Explanation, Report, Status, Verdict
from gradscope.show.explain_document import explain_document, explain_frame, explain_markdown
from gradscope.show.explain_screen import explain_screen, why_words
from gradscope.show.explain_words import shortened, suspects
from gradscope.show.json_document import as_json
from gradscope.show.markdown import markdown
from gradscope.show.report_page import report_page
from gradscope.show.screen import Look

if TYPE_CHECKING:
    from gradscope.judge.hypothesis_facts import Facts

NAMES = [f"net.features_extractor.temporal_projection.{leaf}" for leaf in ("weight", "bias")]


def explained(known: Facts) -> tuple[Report, Explanation]:
    snapshot = known.snapshot
    return report(snapshots=(snapshot,)), Explanation(
        run=snapshot.run, step=snapshot.step, source=snapshot.source, findings=findings(known)
    )


def collapse() -> Facts:
    """Scale mismatch by the slice, dead units behind it, a key bias beside it, clipping that came later."""
    layers = (*dead_network().layers, one_layer("net.attention.in_proj_bias", (192,), expected=64))
    snapshot = replace(one_snapshot(*layers), clip_coefficient=0.6, norm_before_clip=16.8)
    changed = [one_effect(way, 0.0, layer=at) for way in ("flat", "rescaled") for at in (FIRST, SECOND)]
    return facts(
        snapshot,
        units=(units(dead=tuple(range(40))),),
        effects=tuple(changed),
        shift=moved(),
        history=past(1, 1, 1, 1, 60, risen_at=4),
        pushed_zeros={},
        inputs={},
    )


def saturated() -> Facts:
    """A shut actor whose positions are bystanders."""
    shut = units("actor.mu.2.weight", 1, activation="Tanh", saturated=(0,), saturated_fraction=1.0)
    still = one_effect("flat", 0.625, "no effect", "actor.mu.0.weight")
    never = replace(shut_network(), clip_coefficient=None, reasons={"clip_coefficient": "TD3 does not clip"})
    return facts(never, units=(shut,), effects=(still,), shift=moved(largest=2.0), inputs={})


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("known", [collapse, saturated], ids=["collapse", "saturated"])
def test_screens_are_as_they_were_looked_at(known: object, width: int) -> None:
    assert callable(known)
    text = explain_screen(*explained(known()), Look(width=width))
    assert_golden(f"explain_{known.__name__}_{width}.txt", text)
    assert max(cell_len(line) for line in text.splitlines()) <= width


def test_the_answer_is_one_screen() -> None:
    for known in (collapse(), saturated()):
        assert len(explain_screen(*explained(known), Look(width=80)).splitlines()) <= 32


def test_the_three_hypotheses_of_the_case_are_always_answered_by_name() -> None:
    bare = facts(one_snapshot(one_layer("net.0.weight", (4, 4))))
    for known in (collapse(), saturated(), bare):
        shown, explanation = explained(known)
        text = explain_screen(shown, explanation, Look(width=120))
        for name in ("Position saturation: ", "Domain shift: ", "Explosion, clipping, vanishing: "):
            assert name in text


def test_units_that_saturate_without_the_slice_clear_the_slice() -> None:
    _, explanation = explained(saturated())
    first = suspects(explanation)[0]
    assert first.verdict is Verdict.REJECTED
    assert "not by position" in first.text
    untested = replace(saturated(), effects=(), reasons={"effects": "no replay buffer"})
    assert suspects(explained(untested)[1])[0].verdict is Verdict.NOT_TESTABLE
    guilty = replace(saturated(), effects=(one_effect("flat", 0.0, layer="actor.mu.0.weight"),))
    assert suspects(explained(guilty)[1])[0].verdict is Verdict.SUPPORTED


def test_another_slice_is_called_by_its_name() -> None:
    _, explanation = explained(replace(saturated(), slice="market"))
    assert suspects(explanation, "market")[0].name == "market saturation"


def test_a_healthy_snapshot_says_that_there_is_nothing_to_explain() -> None:
    healthy = replace(collapse(), snapshot=dead_network(0))
    text = explain_screen(*explained(healthy), Look(width=80))
    assert "no fault to explain" in text
    assert "Do:" not in text


def test_without_gradients_it_is_not_known() -> None:
    bare = replace(one_layer("net.0.weight", (4, 4)), num_zero=None, anatomy=None, optimizer=None)
    unknown = {"num_zero": None, "zero_fraction": None, "status": Status.UNKNOWN, "clip_coefficient": None}
    text = explain_screen(*explained(facts(one_snapshot(bare, **unknown))), Look(width=80))
    assert "could not be tested" in text
    assert "no fault" not in text


def test_long_layer_names_are_cut_where_that_tells_them_apart() -> None:
    assert shortened(f"zeros of {NAMES[0]} go", NAMES) == "zeros of temporal_projection.weight go"
    twins = ["actor.features_extractor.projection.weight", "critic.features_extractor.projection.weight"]
    assert shortened(twins[0], twins) == twins[0]
    assert shortened("net.0.weight", ["net.0.weight"]) == "net.0.weight"


def test_the_document_holds_every_hypothesis_and_reasons_for_every_null() -> None:
    document = json.loads(as_json(explain_document(*explained(collapse()))))
    assert document["schema"] == "gradscope/explain/1"
    assert document["step"] == 8000
    first = document["hypotheses"][0]
    assert (first["code"], first["verdict"]) == ("scale-mismatch", "supported")
    assert {"measure", "value", "limit", "source"} == set(first["evidence"][0])
    for each in document["hypotheses"]:
        assert each["share_of_zeros"] is not None or each["reasons"]["share_of_zeros"]
    empty = json.loads(as_json(explain_document(report(snapshots=()), None)))
    assert empty["hypotheses"] == []
    assert all(empty[key] is not None or empty["reasons"][key] for key in empty)


def test_the_frame_and_markdown_have_a_row_each() -> None:
    shown, explanation = explained(collapse())
    frame = explain_frame(explanation)
    assert list(frame["code"]) == [each.code for each in explanation.findings]
    assert explain_frame(None).empty
    text = explain_markdown(shown, explanation)
    assert text.count("\n| ") == len(explanation.findings) + 2
    assert "**Position saturation**: rejected" in text


@pytest.mark.parametrize("ascii_only", [False, True])
def test_names_from_files_cannot_steer_the_terminal_or_the_page(ascii_only: bool) -> None:
    layers = (one_layer(HOSTILE, (64, 20), Status.COLLAPSE, dead_unit=800),)
    seen = units(HOSTILE, dead=tuple(range(40)))
    shown, explanation = explained(facts(one_snapshot(*layers), units=(seen,)))
    text = explain_screen(shown, explanation, Look(width=80, ascii_only=ascii_only))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert not ascii_only or text.isascii()
    page = explain_markdown(shown, explanation)
    assert "<script>" not in page
    assert "\n[bold]" not in page


def test_the_report_and_its_markdown_say_why_where_that_was_asked() -> None:
    shown, explanation = explained(saturated())
    whys = {explanation.run: why_words(shown, explanation)}
    page = report_page(shown, Look(width=120), whys)
    assert "Why         Saturation (100.0 % of the zeros)." in page
    assert "Why" not in report_page(shown, Look(width=120))
    assert "- **Why**: Saturation" in markdown(shown, whys)
