from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from makers import case_run

from gradscope import settings
from gradscope.cli import options

COLLAPSE = Path(__file__).parents[2] / "sample_checkpoints" / "collapse"
HEAVY = {"torch", "scipy", "pandas", "stable_baselines3", "plotly", "ray", "h5py"}
EMPTY_APP = """
import typer
app = typer.Typer()
for number in range(10):
    def command(): "Do it."
    app.command(name=f"command{number}")(command)
app()
"""


def modules_after(code: str, directory: Path) -> set[str]:
    ending = "\nimport sys\nprint('modules:', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code + ending], cwd=directory, capture_output=True, text=True, check=True
    )
    return set(done.stdout.rpartition("modules:")[2].split())


def test_a_scan_without_recomputation_imports_nothing_heavy(tmp_path: Path) -> None:
    case_run(tmp_path)
    loaded = modules_after("from gradscope.cli import main\nmain(['scan', '.'])", tmp_path)
    assert "numpy" in loaded
    assert not loaded & HEAVY


def test_help_and_import_load_not_even_numpy(tmp_path: Path) -> None:
    loaded = modules_after("import gradscope\nfrom gradscope.cli import main\nmain(['--help'])", tmp_path)
    assert not loaded & (HEAVY | {"numpy"})


def test_what_options_say_without_importing_settings_is_what_these_say() -> None:
    assert options.MAX_SEED == settings.MAX_SEED


@pytest.mark.timing
def test_help_is_nearly_as_fast_as_an_empty_typer_app(tmp_path: Path) -> None:
    script = tmp_path / "empty.py"
    script.write_text(EMPTY_APP)
    ours = [sys.executable, "-m", "gradscope", "--help"]
    empty = [sys.executable, str(script), "--help"]
    ratios = [seconds(ours) / seconds(empty) for _ in range(9)]
    assert statistics.median(ratios) <= 1.3, ratios


@pytest.mark.timing
def test_a_scan_takes_less_time_than_importing_torch() -> None:
    scan = [sys.executable, "-m", "gradscope", "scan", str(COLLAPSE), "--quiet"]
    torch_alone = [sys.executable, "-c", "import torch"]
    ratios = [seconds(scan) / seconds(torch_alone) for _ in range(5)]
    assert statistics.median(ratios) < 1, ratios


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - start
