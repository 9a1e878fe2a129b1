"""Parquet, Arrow and CSV: columns as rows of a replay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather, parquet
from samples_native import wide

from gradscope.errors import ForeignFile, UnreadableFile
from gradscope.read import open_file, reader_of
from gradscope.read.table_columns import chosen

if TYPE_CHECKING:
    from pathlib import Path


def written(path: Path, columns: dict[str, Any]) -> Path:
    table = pa.table(columns)
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=1000)
    elif path.suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table, 1000)
    elif path.suffix == ".csv":
        pd.DataFrame(columns).to_csv(path)
    else:
        feather.write_feather(table, path, chunksize=1000)
    return path


def opened(path: Path, **keys: str) -> Any:
    return open_file(path, keys)


def reason(path: Path, **keys: str) -> str:
    with pytest.raises(UnreadableFile) as caught:
        opened(path, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value.reason)


@pytest.mark.parametrize("suffix", ["parquet", "feather", "arrow", "csv"])
def test_wide_columns(suffix: str, tmp_path: Path) -> None:
    columns = wide(5000)
    found = opened(written(tmp_path / f"rows_90_steps.{suffix}", columns))
    assert (found.step, found.num_rows) == (90, 5000)
    expected = np.stack([columns[f"observations_{place}"] for place in range(3)], axis=1)
    # text holds as many digits as single precision needs
    np.testing.assert_array_equal(found.observations[""][:, 0].astype(np.float32), expected)
    np.testing.assert_array_equal(found.actions.ravel(), columns["actions"])
    np.testing.assert_array_equal(found.rewards.ravel(), columns["rewards"])
    np.testing.assert_array_equal(found.ends.ravel(), columns["terminals"])
    assert found.actions.dtype == np.int64


@pytest.mark.parametrize("suffix", ["parquet", "feather", "arrow"])
@pytest.mark.parametrize("is_fixed", [False, True])
def test_columns_of_lists(suffix: str, is_fixed: bool, tmp_path: Path) -> None:
    observations = np.random.default_rng(0).normal(size=(3000, 4)).astype(np.float32)
    flat = pa.array(observations.ravel())
    lists = pa.FixedSizeListArray.from_arrays(flat, 4) if is_fixed else pa.array(list(observations))
    table = {"obs": lists, "action": [[[1, 2], [3, 4]]] * 3000, "name": ["x"] * 3000}
    found = opened(written(tmp_path / f"rows.{suffix}", table))
    np.testing.assert_array_equal(found.observations[""][:, 0], observations)
    assert found.actions.shape == (3000, 1, 2, 2)


def test_structs_are_keys(tmp_path: Path) -> None:
    table = {"observation": [{"market": [1.0, 2.0], "position": 3}] * 4, "action": [0, 1, 0, 1]}
    found = opened(written(tmp_path / "rows.parquet", table))
    assert {key: each.shape for key, each in found.observations.items()} == {
        "market": (4, 1, 2),
        "position": (4, 1, 1),
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["obs_10", *(f"obs_{place}" for place in range(10))], [f"obs_{place}" for place in range(11)]),
        (["obs.1", "obs.0"], ["obs.0", "obs.1"]),
        (["obs[2]", "obs[1]"], ["obs[1]", "obs[2]"]),
        (["obs1", "obs2"], ["obs1", "obs2"]),
        (["obs_0", "obs_2"], None),
        (["obs_0"], None),
    ],
)
def test_numbered_columns_without_gaps(names: list[str], expected: list[str] | None) -> None:
    found = chosen([*names, "action"], {})
    assert found.get("observations", {}).get("") == expected


def test_dotted_columns_are_keys() -> None:
    found = chosen(["observation.image_0", "observation.image_1", "observation.speed", "action"], {})
    assert found["observations"] == {
        "image": ["observation.image_0", "observation.image_1"],
        "speed": ["observation.speed"],
    }


def test_the_users_columns(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.csv", {"x10": [1.0], "x9": [2.0], "u": [3], "gain": [4.5]})
    with pytest.raises(ForeignFile):
        opened(path)
    found = opened(path, observations="x*", actions="u", rewards="gain")
    assert found.observations[""].ravel().tolist() == [2.0, 1.0]
    assert "has no columns like 'y*'" in reason(path, observations="y*", actions="u")
    assert "has no entry 'v'" in reason(path, observations="x*", actions="v")


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("obs_0,obs_1,act\r\n1,2,0\r\n3,4,1\r\n", 2),
        ('"obs_0";"obs_1";"act"\n"1.5";2;0\n', 1),
        ("\ufeffobs_0\tobs_1\tact\n1\tnan\t0\n1e3\t-inf\t0\n", 2),
        ("obs_0,obs_1,act\n1,2,0\n3,4,1\n5,6,1", 2),
        ("obs_0,obs_1,act\n1,2,0\n3,4", 1),
    ],
)
def test_csv_as_people_write_it(text: str, rows: int, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(text)
    found = opened(tmp_path / "rows.csv")
    assert found.num_rows == rows
    assert any("last line has no end" in each for each in found.notes) is not text.endswith("\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("obs_0,obs_1,act\n1,2,0\n3,4\n", "Expected 3 columns, got 2"),
        ("obs_0,obs_1,act\n1,x,0\n", "invalid value 'x'"),
        ("obs_0,obs_1,act\n1,,0\n", "invalid value ''"),
        ("obs_0,obs_1,obs_0,act\n1,2,3,0\n", "several columns of one name"),
        ("obs_0,obs_1,act\n1,2,0\n" + "1" * (5 << 20) + "\n", "no table of numbers"),
    ],
)
def test_csv_that_is_no_table_of_numbers(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(text)
    assert expected in reason(tmp_path / "rows.csv")


@pytest.mark.parametrize(
    "text",
    ['#{"t_start": 1.0}\nr,l,t\n1,2,3\n', "Hello, world\nhow are you\n", "1,2,3\n4,5,6\n", "a,b\n", "a\n1\n"],
)
def test_text_that_is_no_table(text: str, tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text(text)
    assert reader_of(tmp_path / "file.csv") is None


def test_logs_are_foreign(tmp_path: Path) -> None:
    (tmp_path / "progress.csv").write_text("time/iterations,train/loss\n1,0.5\n")
    with pytest.raises(ForeignFile):
        opened(tmp_path / "progress.csv")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"obs": [[1.0], [1.0, 2.0]], "act": [1, 2]}, "lists of different lengths in column 'obs'"),
        ({"obs": ["a", "b"], "act": [1, 2]}, "column 'obs' that holds no numbers (string)"),
        ({"obs_0": [1.0, None], "obs_1": [1.0, 2.0], "act": [1, 2]}, "1 empty cells in column 'obs_0'"),
        ({"obs_0": pa.array([], pa.float64()), "act": pa.array([], pa.int64())}, "no entries"),
        ({"obs": pa.array([], pa.float64()), "act": pa.array([], pa.int64())}, "holds no rows"),
    ],
)
@pytest.mark.parametrize("suffix", ["parquet", "feather"])
def test_columns_that_are_no_numbers(
    columns: dict[str, Any], expected: str, suffix: str, tmp_path: Path
) -> None:
    assert expected in reason(written(tmp_path / f"rows.{suffix}", columns))


def test_a_gigabyte_of_zeros_in_parquet(tmp_path: Path) -> None:
    zeros = pa.array(np.zeros(1 << 26))
    table = pa.table({"obs_0": zeros, "obs_1": zeros, "act": zeros})
    parquet.write_table(table, tmp_path / "d.parquet", compression="zstd")
    assert "says it holds 1536 MiB of rows, more than its size justifies" in reason(tmp_path / "d.parquet")
