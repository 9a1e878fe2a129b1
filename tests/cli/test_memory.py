"""--memory: a file that needs more is a row, and everything else is measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from checkpoints_made import saved
from run_cli import gradscope

from gradscope.cli.memory import num_bytes
from gradscope.errors import UsageError
from gradscope.read import memory

COLLAPSE = Path(__file__).parents[2] / "sample_checkpoints" / "confounded"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2GB", 2 * 10**9),
        ("512MiB", 512 << 20),
        ("1.5g", 3 << 29),
        ("300 MB", 3 * 10**8),
        ("4096", 4096),
        ("9999999T", 1 << 62),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert num_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "x", "0", "-1GB", "1e9", "2GBB", "1PB", "9" * 40])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        num_bytes(text)


def test_a_layer_beyond_the_limit_is_a_row_and_the_rest_is_measured(tmp_path: Path) -> None:
    for step in (1, 3):
        saved(tmp_path / f"model_{step}.pt", seed=step)
    layer = torch.ones(15_000, 10_000)
    torch.save({"model": {"0.weight": layer}, "grads": {"0.weight": layer}}, tmp_path / "model_2.pt")
    del layer
    done = gradscope("scan", ".", "--memory", "300MB", "--json", directory=tmp_path)
    (tmp_path / "model_2.pt").unlink()
    assert done.code == 3, done.err
    report = json.loads(done.out)
    assert [each["step"] for each in report["snapshots"]] == [1, 3]
    (row,) = report["unreadable"]
    assert row["source"] == "model_2.pt"
    assert row["reason"].startswith("needs more than --memory 300MB.")


def test_no_room_for_torch_is_told_and_not_remembered(tmp_path: Path) -> None:
    asked = ("scan", str(COLLAPSE), "--source", "recomputed", "--batches", "1", "--json")
    done = gradscope(*asked, "--memory", "200MB", directory=tmp_path)
    assert done.code == 3, done.err
    assert all(
        "needs more than --memory 200MB" in each["reason"] for each in json.loads(done.out)["unreadable"]
    )
    again = json.loads(gradscope(*asked, "--memory", "4GB", directory=tmp_path).out)
    assert again["unreadable"] == []
    assert {each["origin"] for each in again["snapshots"]} == {"recomputed"}


def test_less_than_gradscope_needs_is_refused_with_the_number(tmp_path: Path) -> None:
    done = gradscope("scan", ".", "--memory", "50MB", directory=tmp_path)
    assert done.code == 2
    assert "gradscope itself needs" in done.err


def test_torchs_and_the_systems_words_for_it_are_known() -> None:
    with pytest.raises(RuntimeError) as told:
        torch.empty(1 << 60)
    assert memory.is_out_of_memory(told.value)
    assert memory.is_out_of_memory(OSError(12, "Cannot allocate memory"))
    assert memory.is_out_of_memory(MemoryError())
    assert not memory.is_out_of_memory(RuntimeError("shapes differ"))
    assert not memory.is_out_of_memory(OSError(2, "No such file"))


def test_the_machine_tells_what_it_has() -> None:
    assert (memory.machine_bytes() or 0) > 1 << 28
