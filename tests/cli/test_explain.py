"""``gradscope explain`` as a user runs it, on the sample runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from run_cli import gradscope

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLES = Path(__file__).parent.parent.parent / "sample_checkpoints"
RUN = str(SAMPLES / "confounded")


def test_one_screen_names_saturation_and_clears_the_positions(tmp_path: Path) -> None:
    done = gradscope("explain", RUN, directory=tmp_path)
    assert done.code == 0
    assert len(done.out.splitlines()) <= 25
    assert "Why: saturation (84.1 % of the zeros)" in done.out
    assert "Position saturation: rejected. Units saturate, but not by position" in done.out
    assert "Domain shift: rejected. Position did shift" in done.out
    assert "Explosion, clipping, vanishing: rejected. TD3 does not clip" in done.out


def test_the_case_is_answered_on_one_screen_too(tmp_path: Path) -> None:
    (tmp_path / "samples").symlink_to(SAMPLES)
    done = gradscope("explain", "samples/collapse", "--trust", "--code", "samples", directory=tmp_path)
    assert done.code == 0
    assert len(done.out.splitlines()) <= 24
    assert "Why: scale-mismatch" in done.out


def test_json_files_and_the_last_scan(tmp_path: Path) -> None:
    assert gradscope("scan", RUN, "-q", directory=tmp_path).code == 0
    outputs = [word for suffix in ("json", "csv", "md") for word in ("-o", f"why.{suffix}")]
    done = gradscope("explain", "--step", "8000", "--json", *outputs, directory=tmp_path)
    assert done.code == 0
    document = json.loads(done.out)
    assert (document["schema"], document["step"]) == ("gradscope/explain/1", 8000)
    assert len(document["hypotheses"]) == 10
    assert document["hypotheses"][0]["code"] == "saturation"
    assert json.loads((tmp_path / "why.json").read_text("utf-8")) == document
    assert (tmp_path / "why.csv").read_text("utf-8").count("\n") >= 11
    assert "**Domain shift**: rejected" in (tmp_path / "why.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((RUN, "--step", "3"), "2000, 4000, 6000"),
        ((str(SAMPLES),), "--run"),
        (("nowhere",), "no such file"),
        ((RUN, "--slice", "nothing"), "no slice is called"),
    ],
    ids=["step", "several runs", "path", "slice"],
)
def test_wrong_usage_is_one_line_and_2(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    done = gradscope("explain", *arguments, "--source", "stored", directory=tmp_path)
    assert done.code == 2
    assert words in done.err
    assert not done.out


def test_nothing_to_read_is_4_and_still_a_document(tmp_path: Path) -> None:
    done = gradscope("explain", ".", "--json", directory=tmp_path)
    assert done.code == 4
    assert json.loads(done.out)["hypotheses"] == []


def test_stored_gradients_alone_say_what_is_missing(tmp_path: Path) -> None:
    done = gradscope("explain", RUN, "--source", "stored", "--fail-on", "collapse", directory=tmp_path)
    assert done.code == 1
    assert "saturation" in done.out
    assert "not testable" in done.out.lower()


def test_without_gradients_nothing_is_rejected_for_lack_of_them(
    sb3_files: Callable[[str], Path], tmp_path: Path
) -> None:
    done = gradscope("explain", str(sb3_files("PPO")), directory=tmp_path)
    assert done.code == 0
    assert "unknown, there are no gradients" in done.out
    assert "None" not in done.out
    assert "Position saturation: not testable. There is no gradient: PPO saves no" in done.out
