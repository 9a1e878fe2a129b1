"""Names in files and of files are shown as text by every command in every form, whatever they hold."""

from __future__ import annotations

import csv
import json
import os
import re
import unicodedata
from typing import TYPE_CHECKING

import pandas as pd
import pytest
import torch
from markdown_it import MarkdownIt
from run.run_folders import recorded, rows
from run_cli import gradscope

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = (
    "new\nline\r\x1b[2J\x1b]0;owned\x07",
    "\u202egnp.exe\u2066\u200b",
    "=cmd|' /C calc'!A0",
    "+1+cmd",
    "@SUM(A1)",
    "-2+3",
    "\tTAB=1",
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "![i](https://evil.example/a.png)",
    "<https://evil.example>",
    "https://evil.example/x",
    "www.evil.example",
    "`code` | pipe || **bold** ~~gone~~ &lt;b&gt;",
    "[red]rich[/red] :bomb:",
    "half a pair \udcff\ud800",
    "x" * 5000,
)
SLICE = "@SUM(A1)\x1b[31m\u202e<script>[x](javascript:1)"
COMMANDS = ("scan", "shift", "correlate", "explain", "report", "try", "compare")


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints, recorder files and a damaged file, every name of which is hostile."""
    top = tmp_path_factory.mktemp("top")
    run = top / "-run=1\n\x1b[31m<script>[x](javascript:alert(1)) \u202e=cmd|'x'!A1"
    run.mkdir()
    for step in (1, 2, 3):
        weights = {name: torch.zeros(2, 2) for name in HOSTILE}
        torch.save(
            {"model": weights, "grads": weights, "step": step}, run / f"=cmd|'x'!A1\n\x1b[31m_{step}.pt"
        )
    (run / "=cmd|'x'!A1\n\x1b[31m_3.pt").rename(run / "\udcff\udcfe`|<i>_3.pt")
    for step in (4, 5):
        layers = [{"name": name, "shape": [2, 2], "dtype": "float32"} for name in HOSTILE]
        path = recorded(
            run, step, rows(32, 0.2 * step), 3, slices={HOSTILE[0]: "3:4", HOSTILE[8]: "0:1"}, layers=layers
        )
        path.rename(run / f"\u202e<b>{step}</b>_{step}.safetensors".replace("/", "_"))
    (run / "\udcff\udcfe_bad\n.zip").write_bytes(b"PK\x03\x04 damaged")
    (run / "@unknown\x1b[0m").write_text("nothing")
    return top


def asked(command: str, top: Path) -> list[str]:
    (run,) = top.iterdir()
    slices = ["--slice", f"{SLICE}=3:4"]
    match command:
        case "try":
            return ["try", str(run), "--from", "1", *slices]
        case "compare":
            return ["compare", str(run), str(run)]
        case "correlate":
            return ["correlate", str(top), *slices]
        case "scan":
            config = top.parent / f"{top.name}.toml"
            config.write_text('[slices]\n"=cmd|<script>[x](javascript:1)\\u001b[31m" = "3:4"\n')
            return ["scan", str(top), "--config", str(config)]
    return [command, str(top), *slices]


def hidden(text: str) -> set[str]:
    """Characters that could steer a terminal or reorder text."""
    return {
        each for each in text if unicodedata.category(each) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and each != "\n"
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_every_form_of_every_command_shows_names_as_text(
    command: str, hostile_run: Path, tmp_path: Path
) -> None:
    outputs = [f"-o{tmp_path / f'out.{form}'}" for form in ("json", "csv", "md")]
    screen = gradscope(*asked(command, hostile_run), *outputs, directory=tmp_path)
    # One file is damaged; the steps of a torch file cannot be trained on.
    assert screen.code == (2 if command == "try" else 3), screen.err
    assert screen.out or command == "try"
    assert not hidden(screen.out)
    assert not hidden(screen.err)
    told = gradscope(*asked(command, hostile_run), "--json", directory=tmp_path)
    assert not hidden(told.err)
    if command != "try":
        document = json.loads(told.out)
        assert json.loads(json.dumps(document)) == document
        assert json.loads((tmp_path / "out.json").read_text("utf-8"))
        check_csv(tmp_path / "out.csv")
        check_markdown((tmp_path / "out.md").read_text("utf-8"))


def check_csv(path: Path) -> None:
    """No cell that a spreadsheet would run; numbers stay numbers."""
    text = path.read_text("utf-8")
    assert not hidden(text)
    for row in csv.reader(text.splitlines()[1:]):
        for cell in row:
            assert not cell.startswith(("=", "+", "@", "\t", "\r"))
            assert not cell.startswith("-") or re.fullmatch(r"-[0-9.]+(e-?[0-9]+)?", cell)
    if text.strip():
        frame = pd.read_csv(path)
        if "num_elements" in frame and len(frame):
            assert frame["num_elements"].dtype.kind in "if"


def check_markdown(text: str) -> None:
    """Rendered as on a page: no tag but those of headings, lists, tables and emphasis; no link."""
    assert not hidden(text)
    html = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(text)
    tags = set(re.findall(r"</?([a-z0-9]+)", html))
    assert tags <= {"h1", "h2", "p", "ul", "li", "strong", "table", "thead", "tbody", "tr", "th", "td"}, tags
    assert not re.search(r"href|src=|on[a-z]+=", re.sub(r">[^<]*<", "><", html))
    assert "&lt;script&gt;" in html
    for bare in re.finditer(r"https?://|www\.|~~", re.sub(r"\\.", "", text)):
        raise AssertionError(bare)


def test_a_layer_named_like_a_formula_comes_back_as_text(hostile_run: Path, tmp_path: Path) -> None:
    gradscope("scan", str(hostile_run), f"-o{tmp_path / 'out.csv'}", directory=tmp_path)
    names = set(pd.read_csv(tmp_path / "out.csv")["layer"])
    assert "'=cmd|' /C calc'!A0" in names
    assert "'-2+3" in names
    assert "x" * 5000 in names


def test_a_file_named_like_an_option_is_a_path(hostile_run: Path) -> None:
    (run,) = hostile_run.iterdir()
    assert os.fspath(run.name).startswith("-")
    done = gradscope("scan", "--json", "--", run.name, directory=hostile_run)
    (hostile_run / ".gradscope").exists()
    assert done.code == 3
    assert len(json.loads(done.out)["snapshots"]) == 5
