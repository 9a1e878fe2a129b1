"""``gradscope try --model`` as a user runs it, on a training of their own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from recompute.model_runs import NAME, ModelRun, trained
from run_cli import gradscope
from torch import optim

if TYPE_CHECKING:
    from pathlib import Path

QUICK = ("--gradient-steps", "12", "--seeds", "2", "--slice", "market=0:7", "--slice", "position=7:8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ModelRun:
    folder = tmp_path_factory.mktemp("users")
    return trained(folder, "actor", lambda model: optim.RMSprop(model.parameters(), lr=0.01), size=300.0)


def asked(made: ModelRun, function: str = "actor") -> tuple[str, ...]:
    rows = str(made.folder / "batch.pt")
    where = ("--code", str(made.folder), "--replay", rows, "--batch-size", "8")
    return ("try", str(made.checkpoint), "--from", "6", "--model", f"{NAME}:{function}", *where)


def test_it_is_done_and_says_what_it_took_the_optimizer_for(made: ModelRun, tmp_path: Path) -> None:
    done = gradscope(*asked(made), "--trust", *QUICK, directory=tmp_path)
    assert done.code == 0, done.err
    assert [line for line in done.err.splitlines() if line] == [
        f"gradscope: --trust: imports {NAME}:actor from {made.folder}"
    ]
    words = " ".join(done.out.split())
    assert "12 gradient steps of 8 rows, 2 seeds; slice position (option)" in words
    assert "taken for torch.optim.RMSprop" in words
    assert "Trained on the rows given and no others" in words
    assert "environment" not in words
    assert max(map(len, done.out.splitlines())) <= 80


def test_json_has_every_remedy(made: ModelRun, tmp_path: Path) -> None:
    done = gradscope(*asked(made), "--trust", *QUICK, "--json", directory=tmp_path)
    document = json.loads(done.out)
    assert (done.code, document["from_step"], document["to_step"]) == (0, 6, 6)
    assert len(document["trials"]) == 7
    assert all(each["zero_fraction"] is not None or each["reasons"] for each in document["trials"])


@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        ("actor", (), "add --trust to say that it may"),
        ("always", ("--trust",), "build the model inside of the function"),
        ("grouped", ("--trust",), "its groups have [1, 2, 4] parameters, the saved [7]"),
    ],
)
def test_what_cannot_be_trained_on_is_one_line_and_2(
    function: str, options: tuple[str, ...], words: str, made: ModelRun, tmp_path: Path
) -> None:
    done = gradscope(*asked(made, function), *options, *QUICK, directory=tmp_path)
    assert done.code == 2
    assert "Traceback" not in done.err
    told = [line for line in done.err.splitlines() if "imports" not in line]
    assert len(told) == 1
    assert words in told[0]


def test_a_checkpoint_without_its_optimizer_says_how_to_save_it(made: ModelRun, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_6.pt"
    torch.save({"model": torch.load(made.checkpoint)["model"], "step": 6}, path)
    done = gradscope(asked(made)[0], str(path), *asked(made)[2:], "--trust", *QUICK, directory=tmp_path)
    assert done.code == 2
    assert "step 6 cannot be trained on: the file holds no optimizer state" in done.err
    assert "'optimizer': optimizer.state_dict()" in done.err
