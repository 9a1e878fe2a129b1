"""``gradscope try`` as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from run_cli import gradscope

SAMPLES = Path(__file__).parent.parent.parent / "sample_checkpoints"
RUN = str(SAMPLES / "confounded")
QUICK = ("--gradient-steps", "6", "--seeds", "2")
KEYS = {"remedy", "series", "zero_fraction", "difference", "interval", "verdict", "reasons"}


def nulls_without_reason(trial: dict[str, object]) -> list[str]:
    reasons = trial["reasons"]
    assert isinstance(reasons, dict)
    return [key for key in KEYS if trial[key] is None and key not in reasons]


def test_json_has_the_contracts_names_and_every_null_its_reason(tmp_path: Path) -> None:
    outputs = [word for suffix in ("json", "csv", "md") for word in ("-o", f"out.{suffix}")]
    done = gradscope("try", RUN, "--from", "8000", *QUICK, "--json", *outputs, directory=tmp_path)
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert (document["schema"], document["from_step"]) == ("gradscope/try/1", 8000)
    assert (document["gradient_steps"], document["num_seeds"], document["is_interrupted"]) == (6, 2, False)
    assert [each["remedy"] for each in document["trials"]] == [
        "none",
        "slice-normalizer",
        "input-layer-norm",
        "slice-gradient-scale",
        "slice-learning-rate",
        "activity-learning-rate",
        "recycle-dead-units",
    ]
    for trial in document["trials"]:
        assert set(trial) >= KEYS
        assert not nulls_without_reason(trial), trial["remedy"]
        assert [each["gradient_step"] for each in trial["series"]] == [1, 2, 3, 4, 5, 6]
    assert json.loads((tmp_path / "out.json").read_text("utf-8")) == document
    assert (tmp_path / "out.csv").read_text("utf-8").startswith("run,from_step,remedy,gradient_step")
    assert "| recycle-dead-units |" in (tmp_path / "out.md").read_text("utf-8")


def test_the_screen_says_what_was_not_done(tmp_path: Path) -> None:
    done = gradscope(
        "try", RUN, "--from", "8000", "--remedy", "slice-gradient-scale", *QUICK, directory=tmp_path
    )
    assert done.code == 0, done.err
    assert "No new environment steps were taken" in done.out
    assert "a constant factor cancels" in " ".join(done.out.split())
    assert "slice-normalizer" not in done.out
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((RUN,), "--from STEP"),
        ((RUN, "--from", "3"), "Steps: 2000, 4000"),
        ((RUN, "--from", "8000", "--remedy", "prayer"), "Known: none"),
        ((RUN, "--from", "8000", "--seeds", "0"), "seeds"),
        ((RUN, "--from", "8000", "--slice", "nothing"), "no slice is called"),
        ((str(SAMPLES / "collapse"), "--from", "8000"), "--trust --code DIR"),
        ((str(SAMPLES), "--from", "8000"), "--run"),
        (("nowhere", "--from", "8000"), "no such file"),
        ((RUN, "--from", "8000", "-o", "out.xyz"), "unknown form"),
    ],
    ids=["from", "step", "remedy", "seeds", "slice", "trust", "runs", "path", "form"],
)
def test_wrong_usage_is_one_line_and_2(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    done = gradscope("try", *arguments, directory=tmp_path)
    assert done.code == 2, done
    assert done.out == ""
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_nothing_to_read_is_4(tmp_path: Path) -> None:
    assert gradscope("try", ".", "--from", "1", directory=tmp_path).code == 4


def test_ctrl_c_shows_what_is_finished(tmp_path: Path) -> None:
    """Two trainings a seed; the first seed is done long before the last, whatever else the machine does."""
    command = [sys.executable, "-m", "gradscope", "try", RUN, "--from", "8000", "--seeds", "100"]
    command += ["--gradient-steps", "30", "--remedy", "slice-normalizer"]
    environment = os.environ | {"COLUMNS": "80", "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"}
    for seconds in (8, 16, 32, 64):
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert "Traceback" not in err
        assert out or "interrupted" in err, "nothing is finished, and that is said"
        if out:
            break
    assert "interrupted: of 100 seeds only what is shown was finished" in out
    assert "slice-normalizer" in out
