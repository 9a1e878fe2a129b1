"""--trust, --code, --model: consent, what is told before code runs, and that nothing is left behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from run_cli import gradscope

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "sample_checkpoints"
DIGITS = """
import torch

def digits():
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    def loss(batch):
        print("looking at", len(batch["x"]))
        return torch.nn.functional.cross_entropy(model(batch["x"]), batch["y"])
    return model, loss
"""


@pytest.fixture
def collapsed(tmp_path: Path) -> Path:
    """Two checkpoints of the collapsed sample with their buffers, without recorder files."""
    folder = tmp_path / "run"
    folder.mkdir()
    for step in (6000, 10000):
        for name in (f"rl_model_{step}_steps.zip", f"rl_model_replay_buffer_{step}_steps.pkl"):
            shutil.copy(SAMPLES / "collapse" / name, folder)
    return folder


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    for module in SAMPLES.glob("*.py"):
        shutil.copy(module, folder)
    return folder


def test_a_custom_extractor_needs_consent_and_says_how_to_give_it(collapsed: Path, tmp_path: Path) -> None:
    done = gradscope("scan", "run", directory=tmp_path, width=200)
    assert done.code == 0
    assert collapsed.name in done.out
    assert "trading_agent.TradingExtractor is code of your own: add --trust --code DIR" in done.out
    assert done.err == ""


def test_with_consent_its_gradients_are_recomputed(collapsed: Path, code: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in [*collapsed.iterdir(), *code.iterdir()]}
    trusted = ("scan", "run", "--trust", "--code", "code", "--batches", "2", "--json", "--quiet")
    done = gradscope(*trusted, directory=tmp_path)
    assert done.code == 0
    assert done.err == "gradscope: --trust: imports trading_agent.TradingExtractor from code\n"
    found = json.loads(done.out)["snapshots"]
    assert [each["origin"] for each in found] == ["recomputed", "recomputed"]
    assert [each["status"] for each in found] == ["ok", "collapse"]
    after = {path: path.stat().st_mtime_ns for path in [*collapsed.iterdir(), *code.iterdir()]}
    assert after == before
    remembered = (tmp_path / ".gradscope" / "last_scan.json").read_text()
    assert "trust" not in json.loads(remembered)["scan"]["options"]
    again = gradscope("report", "--json", directory=tmp_path)
    assert again.code == 0
    assert "imports" not in again.err
    assert json.loads(again.out)["scan"]["snapshots"] == found


def test_a_module_that_is_not_there_is_a_reason(collapsed: Path, tmp_path: Path) -> None:
    assert collapsed.is_dir()
    done = gradscope("scan", "run", "--trust", directory=tmp_path, width=200)
    assert done.code == 0
    assert "no gradients" in done.out
    assert "--code" in done.out


def make_digits(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """A supervised run: module, one checkpoint {model, optimizer, step}, a batch file."""
    (folder / "digits.py").write_text(DIGITS)
    scope: dict[str, Any] = {}
    exec(DIGITS, scope)  # noqa: S102 - the same function as the file's
    torch.manual_seed(0)
    model, loss = scope["digits"]()
    optimizer = torch.optim.Adam(model.parameters())
    batch = {"x": torch.randn(40, 6), "y": torch.randint(0, 3, (40,))}
    batch["x"][:, 2] = 0
    loss(batch).backward()
    optimizer.step()
    (folder / "sup").mkdir()
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 7}
    torch.save(content, folder / "sup" / "step_7.pt")
    torch.save(batch, folder / "sup" / "batch.pt")
    optimizer.zero_grad()
    loss(batch).backward()
    return {name: each.grad for name, each in model.named_parameters()}, batch


def test_any_model_gives_the_gradients_of_its_own_loss(tmp_path: Path) -> None:
    gradients, _ = make_digits(tmp_path)
    options = ("--model", "digits:digits", "--code", ".", "--trust", "--replay", "sup/batch.pt")
    done = gradscope("scan", "sup", *options, "--json", directory=tmp_path)
    assert done.code == 0
    assert "gradscope: --trust: imports digits:digits from ." in done.err
    assert "looking at 40" in done.err
    (snapshot,) = json.loads(done.out)["snapshots"]
    assert (snapshot["step"], snapshot["origin"], snapshot["batch_size"]) == (7, "recomputed", 40)
    for layer in snapshot["layers"]:
        own = gradients[layer["name"]]
        assert layer["num_exact_zero"] == int((own == 0).sum())
        assert layer["norm"] == pytest.approx(float(own.norm()), rel=1e-6)
    assert snapshot["layers"][0]["anatomy"]["dead_input"] == 8
    assert snapshot["layers"][0]["baseline_zero_fraction"] >= 1 / 6


def test_batches_are_drawn_where_a_size_is_given_and_entries_may_be_renamed(tmp_path: Path) -> None:
    _, batch = make_digits(tmp_path)
    torch.save({"inputs": batch["x"], "labels": batch["y"]}, tmp_path / "rows.pt")
    options = ["--model", "digits:digits", "--code", ".", "--trust", "--replay", "rows.pt"]
    options += ["--batch-size", "10", "--batches", "3", "--replay-keys", "x=inputs,y=labels"]
    done = gradscope("scan", "sup/step_7.pt", *options, "--json", directory=tmp_path)
    (snapshot,) = json.loads(done.out)["snapshots"]
    assert (snapshot["num_batches"], snapshot["batch_size"]) == (3, 10)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--code", "."], "add --trust"),
        (["--model", "digits:digits"], "add --trust"),
        (["--trust", "--code", "nowhere"], "no such folder"),
        (["--trust", "--model", "digits"], "package.module:function"),
        (["--replay", "nowhere.pkl"], "no such file"),
        (["--replay", "sup/step_7.pt"], "holds neither a replay buffer nor a rollout"),
        (["--trust", "--model", "digits:digits", "--replay-keys", "x"], "NAME=KEY"),
        (["--batches", "0"], "--batches"),
        (["--seed", "-1"], "--seed"),
        (["--source", "guess"], "--source"),
    ],
)
def test_wrong_options_are_one_line(tmp_path: Path, options: list[str], words: str) -> None:
    make_digits(tmp_path)
    done = gradscope("scan", "sup", *options, directory=tmp_path)
    assert done.code == 2
    assert words in done.err
    assert len(done.err.splitlines()) == 1


def test_a_function_that_fails_is_told_with_its_place(tmp_path: Path) -> None:
    make_digits(tmp_path)
    (tmp_path / "digits.py").write_text("def digits():\n    raise RuntimeError('no data here')\n")
    options = ("--model", "digits:digits", "--code", ".", "--trust", "--replay", "sup/batch.pt")
    done = gradscope("scan", "sup", *options, directory=tmp_path, width=200)
    assert done.code == 2
    last = done.err.splitlines()[-1]
    assert last.startswith("gradscope: --model digits:digits --replay sup/batch.pt: no gradients: ")
    assert last.endswith("RuntimeError: no data here (digits.py, line 2)")
    assert "optimizers remember" in done.out


def test_a_gate_without_gradients_says_that_nothing_was_checked(collapsed: Path, tmp_path: Path) -> None:
    assert collapsed.is_dir()
    done = gradscope("scan", "run", "--fail-on", "warn", directory=tmp_path)
    assert done.code == 0
    assert done.err == "gradscope: --fail-on warn: 2 of 2 snapshots could not be judged\n"


def test_code_that_fails_on_a_later_batch_leaves_the_other_snapshots(tmp_path: Path) -> None:
    make_digits(tmp_path)
    moody = "        CALLS.append(1)\n        assert len(CALLS) < 2 or model[2].bias[0] < 9, 'second call'\n"
    text = DIGITS.replace("import torch", "import torch\nCALLS = []", 1)
    (tmp_path / "digits.py").write_text(text.replace("        print(", f"{moody}        print("))
    good = torch.load(tmp_path / "sup" / "step_7.pt")
    good["model"]["2.bias"][0], good["step"] = 10.0, 6
    torch.save(good, tmp_path / "sup" / "step_6.pt")
    options = ["--model", "digits:digits", "--code", ".", "--trust", "--replay", "sup/batch.pt"]
    options += ["--batch-size", "10", "--batches", "3", "--json"]
    done = gradscope("scan", "sup", *options, directory=tmp_path)
    assert done.code == 0
    first, second = json.loads(done.out)["snapshots"]
    assert "second call" in first["reasons"]["zero_fraction"]
    assert second["origin"] == "recomputed"


@pytest.mark.parametrize(
    "line",
    [
        "import os; os.system('echo GARBAGE')",
        "import os; os.write(1, b'GARBAGE')",
        "import sys; sys.__stdout__.write('GARBAGE')",
        "print('GARBAGE')",
    ],
)
def test_whatever_user_code_writes_json_stays_json(tmp_path: Path, line: str) -> None:
    make_digits(tmp_path)
    (tmp_path / "digits.py").write_text(DIGITS.replace("        print(", f"        {line}\n        print("))
    options = ("--model", "digits:digits", "--code", ".", "--trust", "--replay", "sup/batch.pt")
    done = gradscope("scan", "sup", *options, "--json", directory=tmp_path)
    assert done.code == 0
    assert json.loads(done.out)["snapshots"][0]["origin"] == "recomputed"
    assert "GARBAGE" in done.err


def test_an_exception_of_any_kind_is_a_reason(tmp_path: Path) -> None:
    make_digits(tmp_path)
    (tmp_path / "digits.py").write_text("class Odd(BaseException):\n    pass\nraise Odd('boo')\n")
    options = ("--model", "digits:digits", "--code", ".", "--trust", "--replay", "sup/batch.pt")
    done = gradscope("scan", "sup", *options, "--json", directory=tmp_path)
    assert done.code == 2
    assert "Odd: boo (digits.py, line 3)" in done.err
    assert json.loads(done.out)["snapshots"][0]["origin"] == "none"
