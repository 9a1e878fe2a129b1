"""The case's own figures, from real torch files to the screen, the JSON and the exit code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from makers import CASE_LAYER, CASE_ZEROS, case_run
from run_cli import gradscope

import gradscope as library

if TYPE_CHECKING:
    from pathlib import Path

PERCENT = {2000: "4.4 %", 4000: "4.4 %", 6000: "27.4 %", 8000: "65.4 %"}
STATUS = {2000: "ok", 4000: "ok", 6000: "critical", 8000: "collapse"}


@pytest.fixture
def case(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return case_run(folder)


def test_the_json_has_the_cases_counts_and_crossings(case: Path, tmp_path: Path) -> None:
    done = gradscope("scan", "checkpoints", "--json", directory=tmp_path)
    assert done.code == 0
    document = json.loads(done.out)
    found = {each["step"]: each for each in document["snapshots"]}
    assert {step: each["num_zero"] for step, each in found.items()} == CASE_ZEROS
    assert {step: each["status"] for step, each in found.items()} == STATUS
    assert {step: f"{100 * each['zero_fraction']:.1f} %" for step, each in found.items()} == PERCENT
    crossed = {(each["layer"], each["limit"]): each["step"] for each in document["crossings"]}
    assert crossed[CASE_LAYER, "critical"] == 6000
    assert crossed[CASE_LAYER, "collapse"] == 8000
    assert len(list(case.iterdir())) == len(CASE_ZEROS)


@pytest.mark.parametrize("width", [80, 120])
def test_the_screen_has_them_too(case: Path, width: int) -> None:
    done = gradscope("scan", str(case), directory=case.parent, width=width)
    lines = [line.split() for line in done.out.splitlines()]
    for step, percent in PERCENT.items():
        row = next(line for line in lines if line[:1] == [f"{step:,}"])
        assert percent.split()[0] in row
        assert STATUS[step] in row
    crossings = done.out.partition("Crossings")[2]
    assert next(line for line in crossings.splitlines() if "critical" in line).split()[4] == "6,000"
    assert next(line for line in crossings.splitlines() if "collapse" in line).split()[4] == "8,000"


def test_fail_on_and_layer_limits_decide_the_exit_code(case: Path, tmp_path: Path) -> None:
    assert gradscope("scan", str(case), "--fail-on", "collapse", directory=tmp_path).code == 1
    assert (
        gradscope("scan", str(case / "checkpoint_4000.pt"), "--fail-on", "warn", directory=tmp_path).code == 0
    )
    loose = ("--limit", "warn=0.7,critical=0.8,collapse=0.9", "--fail-on", "warn")
    assert gradscope("scan", str(case), *loose, directory=tmp_path).code == 0
    (case / "gradscope.toml").write_text('[layers."*temporal_projection*"]\ncollapse = 0.27\ncritical=0.26\n')
    done = gradscope("scan", str(case), "--json", directory=tmp_path)
    steps = [each["step"] for each in json.loads(done.out)["crossings"] if each["limit"] == "collapse"]
    assert min(steps) == 6000


def test_python_gives_the_same_report(case: Path) -> None:
    report = library.scan(case)
    assert [snapshot.num_zero for snapshot in report.snapshots] == list(CASE_ZEROS.values())
    assert library.to_frame(report)["num_zero"].tolist() == list(CASE_ZEROS.values())
    assert "65.4 %" in library.show_as(report, "terminal")


def test_the_next_command_needs_no_path(case: Path, tmp_path: Path) -> None:
    assert gradscope("report", directory=tmp_path).code == 2
    assert gradscope("scan", str(case), directory=tmp_path).code == 0
    done = gradscope("report", directory=tmp_path)
    assert done.code == 0
    assert "COLLAPSE at step 8,000" in done.out
    together = gradscope("correlate", "--positions", "--json", directory=tmp_path)
    assert json.loads(together.out)["verdict"] == "too few steps"


def test_a_remembered_scan_follows_its_files(case: Path, tmp_path: Path) -> None:
    gradscope("scan", str(case), directory=tmp_path)
    (case / "checkpoint_8000.pt").unlink()
    done = gradscope("report", directory=tmp_path)
    assert "COLLAPSE" not in done.out
    assert "CRITICAL at step 6,000" in done.out
