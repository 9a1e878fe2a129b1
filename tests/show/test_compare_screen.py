from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import pandas as pd
import pytest
from compare_makers import a_run, by_step, collapse_and_cure, taken, unknown, zeros
from golden_files import assert_golden
from makers import HOSTILE
from rich.cells import cell_len

from gradscope import UsageError, show_as
from gradscope.records import Comparison, LeftOut, Status
from gradscope.run.compared import compared, told_apart
from gradscope.show.compare_document import compare_document, compare_frame, compare_markdown
from gradscope.show.compare_screen import compare_screen
from gradscope.show.frames import to_csv
from gradscope.show.json_document import as_json
from gradscope.show.screen import Look


def hostile() -> Comparison:
    layers = [zeros(0.6, HOSTILE, status=Status.COLLAPSE), zeros(0.6, f"{HOSTILE}.weight")]
    one = a_run(
        HOSTILE,
        [taken(1, *layers, source=HOSTILE), taken(None, *layers, source=HOSTILE)],
        slices={HOSTILE: HOSTILE},
        unreadable=(LeftOut(source=HOSTILE, reason=HOSTILE),),
    )
    return compared(one, a_run("b", [unknown(1, HOSTILE), taken(None, zeros(0.0, HOSTILE))]))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_screens_are_as_they_were_looked_at(width: int) -> None:
    text = compare_screen(collapse_and_cure(), Look(width=width))
    assert_golden(f"compare_{width}.txt", text)
    assert max(cell_len(line) for line in text.splitlines()) <= width


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_number_is_cut_and_no_column_stands_without_its_twin(width: int) -> None:
    text = compare_screen(collapse_and_cure(), Look(width=width))
    assert not re.search(r"[\d.,%a-z]…", text)
    for head in ("norm", "clip", "positions", "ratio"):
        assert (f"{head} A" in text) == (f"{head} B" in text)


@pytest.mark.parametrize("ascii_only", [False, True])
def test_names_from_files_cannot_steer_the_terminal_or_the_page(ascii_only: bool) -> None:
    for found in (
        hostile(),
        replace(collapse_and_cure(), reason=HOSTILE, warnings=(HOSTILE,), notes=(HOSTILE,)),
    ):
        text = compare_screen(found, Look(width=300, ascii_only=ascii_only))
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert not ascii_only or text.isascii()
        page = compare_markdown(found)
        assert "<script>" not in page
        assert "\n[bold]" not in page
        table = to_csv(compare_frame(found))
        assert "\x1b" not in table


def test_colors_change_no_word() -> None:
    plain, colored = (compare_screen(collapse_and_cure(), Look(color=color)) for color in (False, True))
    assert "\x1b[" in colored
    assert re.sub(r"\x1b\[[\d;]*m", "", colored).split() == plain.split()


def test_the_verdict_comes_first_and_the_tables_only_where_both_were_read() -> None:
    nothing = compared(by_step("a", {1: 0.0}), a_run("b", [], shift=None))
    text = compare_screen(nothing, Look())
    assert "Verdict: Not comparable.\nNo snapshot could be read in B." in text
    assert "zeros A" not in text
    assert "neither" not in text


def test_unknown_is_shown_as_unknown() -> None:
    found = compared(by_step("a", {1: 0.0, 2: 0.0}), a_run("b", [unknown(1), taken(2, zeros(0.0))]))
    text = compare_screen(found, Look(width=120))
    assert re.search(r"1 +0\.0 % +\? +\? +ok +unknown +\?", text)
    assert "? = not known, which is not 0" in text


def test_the_document_has_the_names_of_the_contract() -> None:
    document = json.loads(as_json(compare_document(collapse_and_cure())))
    assert document["schema"] == "gradscope/compare/1"
    assert document["runs"] == ["collapse", "cured"]
    assert document["verdict"] == "a is worse"
    first, last = document["steps"][0], document["steps"][-1]
    assert (last["step"], last["a"]["status"], last["b"]["status"]) == (8000, "collapse", "ok")
    assert last["a"]["zero_fraction"] == pytest.approx(0.654, abs=1e-4)
    assert first["b"] is None
    assert first["reasons"]["b"] == "no snapshot of this step in B"


def test_the_frame_has_a_row_for_each_layer_and_step_and_unknown_is_missing() -> None:
    back = pd.read_csv(io.StringIO(to_csv(compare_frame(collapse_and_cure()))))
    assert back["layer"].tolist()[:4] == ["*"] * 4
    assert back["zero_fraction_b"].isna().tolist()[:4] == [True, False, False, False]
    assert back["verdict"].tolist()[3] == "a is worse"
    assert len(back) == 4 + 3


def test_markdown_is_the_result() -> None:
    page = compare_markdown(collapse_and_cure())
    assert page.startswith("# gradscope compare: runs/collapse and runs/cured\n")
    assert "**A is worse.** B keeps its gradients" in page
    assert "| 8,000 | 65.4 % |" in page
    assert "Only B has" in page


def test_every_form_of_show_as() -> None:
    found = collapse_and_cure()
    assert show_as(found).startswith("gradscope compare")
    assert json.loads(show_as(found, "json"))["schema"] == "gradscope/compare/1"
    assert show_as(found, "csv").startswith("step,layer,zero_fraction_a")
    assert show_as(found, "markdown").startswith("# gradscope compare")
    with pytest.raises(UsageError, match="unknown form"):
        show_as(found, "html")


@pytest.mark.parametrize(
    ("a", "b", "names"),
    [
        ("runs/a", "runs/b", ("a", "b")),
        ("seed0/run", "seed1/run", ("seed0/run", "seed1/run")),
        ("run", "run", ("run", "run")),
        ("run", "old/run", None),
    ],
)
def test_names_are_as_long_as_they_must_be(a: str, b: str, names: tuple[str, str] | None) -> None:
    found = told_apart(a, b)
    if names is None:
        assert found[0] != found[1]
        assert found[1] == "old/run"
    else:
        assert found == names
