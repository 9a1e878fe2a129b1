"""The screen of ``try`` on a report made by hand, at several widths, and its words."""

from __future__ import annotations

from typing import Any

import makers
import pytest
from golden_files import assert_golden

from gradscope.records import Trial, TrialCrossing, TrialLayer, TrialPoint, TrialVerdict, TryReport
from gradscope.show.screen import Look
from gradscope.show.try_document import try_document, try_frame, try_markdown
from gradscope.show.try_screen import answer, sparkline, try_screen

SCANNED = makers.report(path="runs/a")
FIRST = "q_net.features_extractor.temporal_projection.weight"


def trial(
    remedy: str, zeros: float, difference: float | None, verdict: TrialVerdict | None, **more: Any
) -> Trial:
    rising = [zeros * at / 39 for at in range(40)]
    values: dict[str, Any] = {
        "num_seeds": 3,
        "series": [
            TrialPoint(gradient_step=25 * (at + 1), zero_fraction=each, loss=0.3)
            for at, each in enumerate(rising)
        ],
        "zero_fraction": zeros,
        "difference": difference,
        "interval": None if difference is None else (difference - 0.04, difference + 0.04),
        "loss": 0.31,
        "layers": [TrialLayer(name=FIRST, zero_fraction=zeros, difference=difference)],
    }
    return Trial(remedy=remedy, verdict=verdict, **(values | more))


def report(**changes: Any) -> TryReport:
    crossing = TrialCrossing(layer=FIRST, limit="collapse", gradient_step=625, zero_fraction=0.52)
    values: dict[str, Any] = {
        "run": ".",
        "source": "rl_model_6000_steps.zip",
        "from_step": 6000,
        "to_step": 10_000,
        "gradient_steps": 1000,
        "num_seeds": 3,
        "batch_size": 128,
        "slice": "position",
        "slices_from": "recorded",
        "rows_per_update": 4.0,
        "trials": (
            trial("none", 0.441, None, None, crossings=(crossing,)),
            trial("slice-normalizer", 0.0, -0.441, TrialVerdict.HELPS),
            trial("slice-gradient-scale", 0.40, -0.04, TrialVerdict.UNCLEAR, reasons={"note": "it cancels"}),
            trial("activity-learning-rate", 0.44, 0.001, TrialVerdict.NO_EFFECT),
            Trial(
                remedy="recycle-dead-units", reasons={"verdict": "no \x1b[31m units", "zero_fraction": "none"}
            ),
        ),
        "notes": ("observations are \x1b[1mnormalised",),
    }
    return TryReport(**(values | changes))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_whole_screen(width: int) -> None:
    text = try_screen(report(), Look(width=width), SCANNED)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    assert_golden(f"try_{width}.txt", text)


def test_ascii_is_ascii() -> None:
    assert try_screen(report(), Look(ascii_only=True), SCANNED).isascii()


def test_the_answer_says_how_far_each_helps_and_who_does_not() -> None:
    assert answer(report()) == (
        "Unchanged, 44.1 % of zeros at the end. Slice-normalizer (0.0 %) helps; slice-gradient-scale is not "
        "clear; activity-learning-rate changes less than 5 points."
    )
    harmful = report(
        trials=(trial("none", 0.1, None, None), trial("input-layer-norm", 0.6, 0.5, TrialVerdict.HARMS))
    )
    assert answer(harmful).endswith("Input-layer-norm (60.0 %) harms.")
    nothing = report(trials=(Trial(remedy="none"),))
    assert "Nothing can be said" in answer(nothing)


def test_an_interrupt_is_said() -> None:
    assert "interrupted: of 3 seeds" in try_screen(report(is_interrupted=True), Look(), SCANNED)


def test_documents() -> None:
    document = try_document(report(), SCANNED)
    assert document["schema"] == "gradscope/try/1"
    assert document["trials"][0]["reasons"]["verdict"].startswith("the training as it was")
    assert document["trials"][1]["verdict"] == "helps"
    assert document["trials"][4]["reasons"]["interval"] == "none"
    frame = try_frame(report())
    assert len(frame) == 4 * 40
    assert "\\x1b" in try_markdown(report())


def test_curves_keep_their_ends_and_their_gaps() -> None:
    assert sparkline([0.0, 1.0], 2, ascii_only=False) == "▁█"
    assert sparkline([0.0, None, 1.0], 3, ascii_only=True) == "_ #"
    assert sparkline([], 4, ascii_only=False) == ""
    assert len(sparkline([0.5] * 40, 14, ascii_only=False)) == 14
