"""Small real files that libhdf5 and Arrow wrote, and one of CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import gymnasium
import h5py
import minari
import numpy as np
import pyarrow as pa
from minari.data_collector import EpisodeBuffer
from pyarrow import feather, parquet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest

RECORDS: Final = dict.fromkeys(("hdf5", "parquet", "arrow", "csv", "minari"), "Replay")
EPISODES: Final = (5, 3, 4)
"""Steps of the minari samples' episodes."""


def rows(count: int = 6) -> dict[str, np.ndarray[Any, Any]]:
    """Transitions under usual names."""
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(count, 3)).astype(np.float32),
        "actions": rng.integers(0, 4, count),
        "rewards": rng.normal(size=count),
        "terminals": rng.random(count) < 0.5,
    }


def wide(count: int = 6) -> dict[str, np.ndarray[Any, Any]]:
    """The same with a column for each number."""
    found = rows(count)
    observations = found.pop("observations")
    return {f"observations_{place}": observations[:, place] for place in range(3)} | found


def hdf5_file(folder: Path, _: object) -> Path:
    with h5py.File(folder / "d.h5", "w") as file:
        for name, array in rows().items():
            file[name] = array
    return folder / "d.h5"


def parquet_file(folder: Path, _: object) -> Path:
    parquet.write_table(pa.table(wide()), folder / "d.parquet")
    return folder / "d.parquet"


def arrow_file(folder: Path, _: object) -> Path:
    feather.write_feather(pa.table(wide()), folder / "d.feather")
    return folder / "d.feather"


def csv_file(folder: Path, _: object) -> Path:
    """One row, so that a part of the file holds none."""
    found = wide(1)
    line = ",".join(str(each[0]) for each in found.values())
    (folder / "d.csv").write_text(",".join(found) + "\n" + line + "\n")
    return folder / "d.csv"


def episode(number: int, steps: int, space: gymnasium.spaces.Dict) -> EpisodeBuffer:
    """Random numbers of the right shapes."""
    rng = np.random.default_rng(number)
    points = [space.sample() for _ in range(steps + 1)]
    return EpisodeBuffer(
        id=number,
        observations={
            "market": np.stack([each["market"] for each in points]),
            "position": np.array([each["position"] for each in points]),
            "pair": (
                np.stack([each["pair"][0] for each in points]),
                np.array([each["pair"][1] for each in points]),
            ),
        },
        actions=rng.normal(size=(steps, 2)).astype(np.float32),
        rewards=rng.normal(size=steps),
        terminations=np.arange(steps) == steps - 1,
        truncations=np.zeros(steps, bool),
        infos={},
    )


def minari_dataset(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str = "sample"
) -> minari.MinariDataset:
    """Three episodes of a Dict observation, as minari itself stores them."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    spaces = gymnasium.spaces
    space = spaces.Dict(
        {
            "market": spaces.Box(-1, 1, (2, 3), np.float32, seed=0),
            "position": spaces.Discrete(5, seed=1),
            "pair": spaces.Tuple((spaces.Box(-1, 1, (2,), np.float64, seed=2), spaces.Discrete(3, seed=3))),
        }
    )
    return minari.create_dataset_from_buffers(
        dataset_id=f"{name}-v0",
        buffer=[episode(number, steps, space) for number, steps in enumerate(EPISODES)],
        observation_space=space,
        action_space=spaces.Box(-9, 9, (2,), np.float32),
        data_format=kind,
        algorithm_name="none",
        code_permalink="none",
        author="none",
        author_email="none",
    )


def minari_folder(folder: Path, _: object) -> Path:
    import pytest  # noqa: PLC0415  only for its patch

    with pytest.MonkeyPatch.context() as patch:
        minari_dataset(folder, patch, "arrow")
    return folder / "sample-v0" / "data"


SAMPLES: Final[Mapping[str, Any]] = {
    "hdf5": hdf5_file,
    "parquet": parquet_file,
    "arrow": arrow_file,
    "csv": csv_file,
    "minari": minari_folder,
}
