from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradscope.read import open_file
from gradscope.records import ALL_LAYERS, Timeline
from gradscope.run import open_run, scan_opened
from gradscope.run.together import timeline_series
from gradscope.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

HEADER = {
    "schema": "gradscope/timeline/1",
    "algorithm": "TD3",
    "zero_tolerance": 1e-8,
    "slices": {"position": "0:1"},
    "optimizers": {
        "actor": [{"name": "actor.weight", "num_elements": 10}],
        "critic": [{"name": "critic.weight", "num_elements": 10}],
    },
}


def row(step: int, optimizer: str, num_zero: int, num_active: int) -> dict[str, object]:
    lists = {key: [num_zero] for key in ("num_zero", "num_exact_zero")}
    lists |= {"num_expected": [0], "num_nonfinite": [0], "norm": [1.0]}
    counts = {"num_rows": 4, "num_active": num_active, "num_long": None, "num_short": None}
    clip = {"norm_before_clip": 1.0, "clip_coefficient": None}
    return {"step": step, "update": step, "optimizer": optimizer} | lists | clip | counts


def written(folder: Path, *lines: dict[str, object]) -> Timeline:
    path = folder / "rl_model_gradscope_timeline.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    timeline = open_file(path)
    assert isinstance(timeline, Timeline)
    return timeline


def test_a_late_actor_neither_hides_activity_nor_shakes_the_pooled_total(tmp_path: Path) -> None:
    """TD3's actor steps seldom: rows of the critic alone are no change of the whole network."""
    timeline = written(
        tmp_path,
        HEADER,
        row(10, "critic", 1, 0),
        row(10, "actor", 9, 0),
        row(20, "critic", 1, 2),
        row(30, "critic", 1, 4),
        row(30, "actor", 9, 4),
    )
    series = timeline_series(timeline, Settings())
    assert series.activity.tolist() == [0, 0.5, 1]
    assert series.fractions[ALL_LAYERS][[0, 2]].tolist() == pytest.approx([0.5, 0.5])
    assert np.isnan(series.fractions[ALL_LAYERS][1])
    assert series.fractions["critic.weight"].tolist() == pytest.approx([0.1, 0.1, 0.1])


def test_all_tolerances_of_a_resumed_recording_are_known(tmp_path: Path) -> None:
    later = HEADER | {"zero_tolerance": 1e-6}
    timeline = written(tmp_path, HEADER, row(10, "critic", 1, 0), later, row(20, "critic", 1, 2))
    assert timeline.zero_tolerances == (1e-8, 1e-6)


def test_rows_that_were_dropped_are_told(tmp_path: Path) -> None:
    written(
        tmp_path, HEADER, row(10, "critic", 1, 0), row(20, "critic", 1, 0), HEADER, row(15, "critic", 1, 0)
    )
    notes = scan_opened(open_run(tmp_path)).notes
    assert any("rl_model_gradscope_timeline.jsonl" in note for note in notes)
