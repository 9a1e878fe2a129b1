from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from makers import case_run
from run_cli import gradscope

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("command", "title"),
    [
        ("scan", "# gradscope: "),
        ("report", "# gradscope: "),
        ("shift", "# gradscope shift: "),
        ("correlate", "# gradscope correlate: "),
    ],
)
def test_markdown_files_hold_the_result_of_their_own_command(
    tmp_path: Path, command: str, title: str
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    done = gradscope(command, str(case_run(run)), "-o", "out.md", directory=tmp_path)
    assert done.code == 0
    assert (tmp_path / "out.md").read_text("utf-8").startswith(title)
