"""Names and filters on the command line: refused where they fit nothing, told where they last."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from run.run_folders import checkpoint, replay, rows
from run_cli import gradscope

if TYPE_CHECKING:
    from pathlib import Path

POSITION = ("--slice", "position=3:4")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    for step in (40, 80):
        checkpoint(folder, step)
        replay(folder, f"rl_model_replay_buffer_{step}_steps.pkl", rows(40, 0.5, seed=step))
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("scan", "run", "--slice", "nonsense"),
        ("shift", "run", "--slice", "nonsense"),
        ("shift", "run", *POSITION, "--slice", "nonsense"),
        ("report", "run", "--layer", "zzz"),
        ("scan", "run", "--skip-layer", "zzz"),
        ("scan", "run", "--skip-layer", "*"),
    ],
)
def test_names_that_fit_nothing_are_one_line_before_anything_is_shown(
    arguments: tuple[str, ...], run: Path
) -> None:
    done = gradscope(*arguments, directory=run.parent)
    assert done.code == 2
    assert done.out == ""
    assert len(done.err.strip().splitlines()) == 1


def test_a_bare_name_selects_for_one_command(run: Path) -> None:
    def shown(*arguments: str) -> set[str]:
        done = gradscope("shift", *arguments, "--json", directory=run.parent)
        assert done.code == 0
        return {each["name"] for step in json.loads(done.out)["steps"] for each in step["slices"]}

    assert shown("run", *POSITION) == {"position", "market"}
    assert shown("run", *POSITION, "--slice", "market") == {"market"}
    assert gradscope("scan", "run", *POSITION, "--slice", "market", directory=run.parent).code == 0
    assert shown() == {"position", "market"}


def test_options_that_last_are_told(run: Path) -> None:
    options = ("--layer", "*weight", *POSITION)
    assert gradscope("scan", "run", *options, directory=run.parent).code == 0
    done = gradscope("report", directory=run.parent)
    assert done.code == 0
    assert "last scan of this directory: run --slice position=3:4 --layer *weight" in done.err
    assert "only layers that fit '*weight': 1 of 1" in done.out


@pytest.mark.parametrize("name", ["notes.txt", "broken.zip"])
def test_only_an_unknown_or_broken_file_is_exit_code_4(run: Path, name: str) -> None:
    (run / name).write_text("hello")
    assert gradscope("scan", f"run/{name}", directory=run.parent).code == 4
    assert gradscope("scan", f"run/{name}", "run/rl_model_40_steps.pt", directory=run.parent).code == (
        3 if name == "broken.zip" else 0
    )
