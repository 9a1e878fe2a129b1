from __future__ import annotations

import json
import os
import pickle
from typing import TYPE_CHECKING

import pytest
from makers import case_run
from run_cli import gradscope

if TYPE_CHECKING:
    from pathlib import Path

ANALYSING = ("scan", "shift", "correlate", "report")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return case_run(folder)


@pytest.mark.parametrize(
    "arguments",
    [
        ("scan",),
        ("scan", "nowhere"),
        ("scan", "run", "--foo"),
        ("scan", "run", "--limit", "warn=2"),
        ("scan", "run", "--limit", "bad=0.2"),
        ("scan", "run", "--limit", "warn"),
        ("scan", "run", "--zero-tolerance", "-1"),
        ("scan", "run", "--zero-tolerance", "nan"),
        ("scan", "run", "--slice", "position="),
        ("scan", "run", "--sequence-length", "0"),
        ("scan", "run", "--config", "nowhere.toml"),
        ("scan", "run", "-o", "out.xyz"),
        ("scan", "run", "-o", "nowhere/out.json"),
        ("scan", "run", "--run", "other"),
        ("scan", "run", "--fail-on", "tragedy"),
        ("report",),
        ("report", "broken.json"),
        ("correlate", "--positions"),
        ("correlate", "run", "--slice", "unheard"),
        ("shift", "run", "--reference", "77"),
        ("help", "nonsense"),
        ("nonsense",),
        ("export",),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: tuple[str, ...], run: Path) -> None:
    (run.parent / "broken.json").write_text("{")
    done = gradscope(*arguments, directory=run.parent)
    assert done.code == 2, done
    assert done.out == ""
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert "?." not in done.err
    assert "Value error" not in done.err


@pytest.mark.parametrize("command", ANALYSING)
def test_an_empty_folder_is_exit_code_4_with_json_too(command: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = gradscope(command, "empty", directory=tmp_path)
    assert done.code == 4
    assert "formats" in done.err
    done = gradscope(command, "empty", "--json", directory=tmp_path)
    assert done.code == 4
    assert json.loads(done.out)["schema"].startswith("gradscope/")


class Marker:
    """A pickle of this creates a file where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


def bad_files(folder: Path, marker: Path) -> set[str]:
    (folder / "empty.zip").write_bytes(b"")
    (folder / "random.pt").write_bytes(bytes(range(256)) * 40)
    (folder / "truncated.pt").write_bytes((folder / "checkpoint_2000.pt").read_bytes()[:3000])
    (folder / "evil.pkl").write_bytes(pickle.dumps(Marker(str(marker))))
    (folder / "short.safetensors").write_bytes(b"\xff" * 8 + b"{")
    return {"empty.zip", "random.pt", "truncated.pt", "short.safetensors"}


def test_bad_files_are_rows_and_the_rest_is_measured(run: Path) -> None:
    marker = run.parent / "executed"
    names = bad_files(run, marker)
    done = gradscope("scan", "run", "--json", directory=run.parent)
    document = json.loads(done.out)
    assert done.code == 3
    assert {each["source"] for each in document["unreadable"]} == names
    assert all(each["reason"] and "\n" not in each["reason"] for each in document["unreadable"])
    assert [each["step"] for each in document["snapshots"]] == [2000, 4000, 6000, 8000]
    evil = next(each["reason"] for each in document["skipped"] if each["source"] == "evil.pkl")
    assert "mkdir" in evil, "what it would have called is named"
    assert not marker.exists()


def test_only_bad_files_are_exit_code_4(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"")
    done = gradscope("scan", "x.pt", "--json", directory=tmp_path)
    assert done.code == 4
    assert [each["source"] for each in json.loads(done.out)["unreadable"]] == ["x.pt"]


def test_unreadable_comes_before_fail_on(run: Path) -> None:
    (run / "x.pt").write_bytes(b"")
    assert gradscope("scan", "run", "--fail-on", "warn", directory=run.parent).code == 3


def test_outputs_are_written_and_json_alone_goes_to_standard_output(run: Path) -> None:
    outputs = ("-o", "a.json", "-o", "a.csv", "-o", "a.md")
    done = gradscope("report", "run", "--json", *outputs, directory=run.parent)
    assert done.code == 0
    assert json.loads(done.out) == json.loads((run.parent / "a.json").read_text("utf-8"))
    assert "65.4 %" in (run.parent / "a.md").read_text("utf-8")
    assert (run.parent / "a.csv").read_text("utf-8").startswith("run,step,source,layer")
    shown = gradscope("report", "a.json", directory=run.parent)
    assert shown.code == 0
    assert "COLLAPSE at step 8,000" in shown.out


def test_a_folder_that_cannot_be_written_is_a_notice_not_a_failure(run: Path) -> None:
    (run.parent / ".gradscope").write_text("a file in the way")
    done = gradscope("scan", "run", directory=run.parent)
    assert done.code == 0
    assert "not remembered" in done.err


def test_quiet_ascii_and_piped_screens(run: Path) -> None:
    done = gradscope("scan", "run", "--ascii", "--quiet", directory=run.parent)
    assert done.out.isascii()
    assert done.err == ""
    assert "\x1b" not in done.out
