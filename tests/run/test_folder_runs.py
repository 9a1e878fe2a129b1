"""Checkpoints that are folders, scanned as users name them: which run they belong to, what is left over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from samples_folders import copied, dcp_saved, small_network, stepped, trained_by_trainer

from gradscope import scan

if TYPE_CHECKING:
    from pathlib import Path

    from gradscope.records import Report


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs in one folder."""
    folder = tmp_path_factory.mktemp("tree")
    trainer = trained_by_trainer(folder / "trainer")
    trainer.save_model()
    trainer.save_state()
    network = small_network()
    for step in (200, 100):
        content: dict[str, Any] = {"model": network.state_dict(), "optim": stepped(network).state_dict()}
        dcp_saved(content, folder / "dcp" / f"step_{step}")
    (folder / "rllib").mkdir()
    for number, name in enumerate(("ppo_fresh", "ppo")):
        copied(f"rllib/{name}", folder / "rllib").rename(folder / "rllib" / f"checkpoint_00000{number}")
    copied("d3rlpy/dead", folder)
    (folder / "dead" / "model_10.pt").unlink()
    return folder


def seen(report: Report) -> list[tuple[str, int | None, str]]:
    return [(each.run, each.step, each.source) for each in report.snapshots]


def test_every_run_is_the_folder_that_a_user_would_name(tree: Path) -> None:
    report = scan(tree)
    assert seen(report) == [
        ("dcp", 100, "dcp/step_100"),
        ("dcp", 200, "dcp/step_200"),
        ("dead", 10, "dead/model_10.d3"),
        ("rllib", 0, "rllib/checkpoint_000000"),
        ("rllib", 128, "rllib/checkpoint_000001"),
        ("trainer", 10, "trainer/checkpoint-10"),
        ("trainer", 20, "trainer"),
        ("trainer", 20, "trainer/checkpoint-20"),
    ]
    assert {each.source: each.double_of for each in report.snapshots if each.double_of} == {
        "trainer": "trainer/checkpoint-20"
    }
    assert [(each.run, each.source, each.num_rows) for each in report.timelines] == [("dead", "dead", 2)]
    assert (report.skipped, report.unreadable) == ((), ())
    logged = [note for note in report.notes if "gradient norm as logged since step" in note]
    assert [note.partition(":")[0] for note in logged] == [
        *("trainer/checkpoint-10", "trainer, trainer/checkpoint-20"),
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dcp", [(".", 100, "step_100"), (".", 200, "step_200")]),
        ("dcp/step_100", [(".", 100, "step_100")]),
        ("rllib/checkpoint_000001", [(".", 128, "checkpoint_000001")]),
        ("dead", [(".", 10, "model_10.d3")]),
        ("trainer/checkpoint-10", [(".", 10, "checkpoint-10")]),
        ("trainer", [(".", 10, "checkpoint-10"), (".", 20, "trainer"), (".", 20, "checkpoint-20")]),
    ],
)
def test_a_run_or_a_checkpoint_named_alone(
    name: str, expected: list[tuple[str, int, str]], tree: Path
) -> None:
    report = scan(tree / name)
    assert seen(report) == expected
    assert len(report.timelines) == (name == "dead")
    assert (report.skipped, report.unreadable) == ((), ())


def test_several_checkpoints_named_together(tree: Path) -> None:
    report = scan(tree / "trainer/checkpoint-20", tree / "trainer/checkpoint-10")
    assert seen(report) == [(".", 10, "checkpoint-10"), (".", 20, "checkpoint-20")]


def test_a_broken_folder_is_one_row_and_the_others_are_measured(tmp_path: Path) -> None:
    for step in (1, 2):
        dcp_saved({"model": small_network().state_dict()}, tmp_path / f"step_{step}")
    (tmp_path / "step_2" / "__0_0.distcp").write_bytes(b"")
    report = scan(tmp_path)
    assert seen(report) == [(".", 1, "step_1")]
    (row,) = report.unreadable
    assert row.source == "step_2" or row.source.endswith(".distcp")
