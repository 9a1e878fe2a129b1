"""The recorder's dense timeline, as written, torn, resumed and damaged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gradscope.errors import UnreadableFile
from gradscope.read import open_file
from gradscope.records import TIMELINE_SCHEMA, Timeline

if TYPE_CHECKING:
    from pathlib import Path

LAYERS = [{"name": "w", "num_elements": 10}, {"name": "b", "num_elements": 2}]
HEADER: dict[str, Any] = {
    "schema": TIMELINE_SCHEMA,
    "algorithm": "DQN",
    "zero_tolerance": 1e-8,
    "slices": {"position": "2:3"},
    "sequence_length": 4,
    "feature_names": None,
    "optimizers": {"policy": LAYERS},
}


def row(step: Any, **change: Any) -> dict[str, Any]:
    values = {
        "step": step,
        "update": step,
        "optimizer": "policy",
        "num_zero": [step, None],
        "num_exact_zero": [1, None],
        "num_expected": [0, None],
        "num_nonfinite": [0, None],
        "norm": [0.5, None],
        "norm_before_clip": 12.0,
        "clip_coefficient": None,
        "num_rows": 256,
        "num_active": 207,
        "num_long": 101,
        "num_short": 106,
    }
    return values | change


def written(path: Path, *lines: object, end: str = "\n") -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + end)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rl_model_gradscope_timeline.jsonl"


def opened(path: Path) -> Timeline:
    record = open_file(path)
    assert isinstance(record, Timeline)
    return record


def test_every_number_has_its_place(path: Path) -> None:
    timeline = opened(written(path, HEADER, row(100), row(120, clip_coefficient=0.5, num_active=None)))
    assert timeline.num_rows == 2
    assert timeline.step.tolist() == [100, 120]
    assert timeline.step.dtype == np.int64
    assert timeline.norm_before_clip.tolist() == [12.0, 12.0]
    np.testing.assert_array_equal(timeline.clip_coefficient, [np.nan, 0.5])
    np.testing.assert_array_equal(timeline.num_active, [207, np.nan])
    assert timeline.num_long.tolist() == [101, 101]
    assert timeline.num_short.tolist() == [106, 106]
    weight, bias = timeline.layers
    assert (weight.name, weight.num_elements, bias.name, bias.num_elements) == ("w", 10, "b", 2)
    assert weight.num_zero.tolist() == [100, 120]
    assert weight.num_exact_zero.tolist() == [1, 1]
    assert weight.num_expected.tolist() == [0, 0]
    assert weight.norm.tolist() == [0.5, 0.5]
    assert weight.num_rows.tolist() == [256, 256]
    assert np.isnan(bias.num_zero).all()
    assert timeline.observed.slices == {"position": ("2:3",)}
    assert timeline.observed.sequence_length == 4
    assert timeline.notes == ()


def test_each_optimizer_has_rows_of_its_own(path: Path) -> None:
    header = HEADER | {"optimizers": {"actor": LAYERS[:1], "critic": LAYERS}}
    actor = row(1, optimizer="actor", num_zero=[3], num_exact_zero=[3], num_expected=[0], norm=[1.0])
    timeline = opened(written(path, header, row(1, optimizer="critic"), row(2, optimizer="critic"), actor))
    assert [(layer.name, layer.step.tolist()) for layer in timeline.layers] == [
        ("w", [1]),
        ("w", [1, 2]),
        ("b", [1, 2]),
    ]
    assert timeline.step.tolist() == [1, 2, 1]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_torn_by_a_kill_is_left_out_silently(path: Path, cut: int) -> None:
    torn = json.dumps(row(140))[:cut]
    timeline = opened(written(path, HEADER, row(100), row(120), torn, end=""))
    assert timeline.step.tolist() == [100, 120]
    assert timeline.notes == ()


def test_a_resumed_training_replaces_the_future_it_left(path: Path) -> None:
    timeline = opened(
        written(path, HEADER, row(100), row(120), row(140), '{"step": 16', HEADER, row(120), row(130))
    )
    assert timeline.step.tolist() == [100, 120, 130]
    assert timeline.notes == (
        "1 lines of the timeline could not be read",
        "2 rows of the timeline are of an earlier attempt and left out",
    )


def test_another_network_starts_anew(path: Path) -> None:
    other = HEADER | {"optimizers": {"policy": LAYERS[::-1]}}
    timeline = opened(written(path, HEADER, row(100), other, row(200)))
    assert timeline.step.tolist() == [200]
    assert timeline.layers[0].name == "b"


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "[]",
        "3",
        "",
        "[" * 100_000,
        row(-1),
        row(None),
        row(10**30),
        row(1.5),
        row(100, optimizer="other"),
        row(100, optimizer=[]),
        row(100, num_zero=[1]),
        row(100, num_zero=3),
        row(100, num_zero=[[1], [2]]),
        row(100, num_zero=["x", None]),
        row(100, norm=[10**400, 1]),
        row(100, num_active={}),
        {"step": 100},
    ],
    ids=lambda bad: str(bad)[:30],
)
def test_bad_lines_are_counted_and_the_rest_is_read(path: Path, bad: object) -> None:
    timeline = opened(written(path, HEADER, row(100), bad, row(120)))
    assert timeline.step.tolist() == [100, 120]
    assert timeline.notes == ("1 lines of the timeline could not be read",)


def test_nothing_infinite_comes_in(path: Path) -> None:
    timeline = opened(
        written(path, HEADER, row(1, norm=[float("inf"), float("nan")], norm_before_clip=float("inf")))
    )
    assert np.isnan(timeline.norm_before_clip).all()
    assert np.isnan(timeline.layers[0].norm).all()


def test_a_header_alone_is_a_timeline_without_rows(path: Path) -> None:
    timeline = opened(written(path, HEADER))
    assert timeline.num_rows == 0
    assert [layer.num_zero.shape for layer in timeline.layers] == [(0,), (0,)]


@pytest.mark.parametrize(
    "lines",
    [
        [row(1)],
        [HEADER | {"schema": "gradscope/timeline/2"}],
        [HEADER | {"optimizers": {"policy": [{"name": "w"}]}}],
        [HEADER | {"optimizers": {"policy": [3]}}],
        ["{"],
    ],
)
def test_timelines_that_cannot_be_read(path: Path, lines: list[Any]) -> None:
    with pytest.raises(UnreadableFile):
        open_file(written(path, *lines))


def test_thousands_of_rows_of_forty_layers(path: Path) -> None:
    layers = [{"name": str(index), "num_elements": 100} for index in range(40)]
    numbers = {key: list(range(40)) for key in ("num_zero", "num_exact_zero", "num_expected", "norm")}
    rows = [json.dumps(row(step, **numbers)) for step in range(4_000)]
    timeline = opened(written(path, HEADER | {"optimizers": {"policy": layers}}, *rows))
    assert timeline.num_rows == 4_000
    assert timeline.layers[39].num_zero.tolist() == [39] * 4_000
