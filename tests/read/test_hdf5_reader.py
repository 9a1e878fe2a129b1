"""HDF5 replays against what the libraries that wrote them say they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from samples_native import EPISODES, minari_dataset

from gradscope.errors import ForeignFile, UnreadableFile
from gradscope.read import open_file

FILES = Path(__file__).parent.parent / "files"
TIANSHOU = np.load(FILES / "tianshou" / "expected.npz")
D3RLPY = np.load(FILES / "d3rlpy_dataset" / "expected.npz")


def opened(path: Path, **keys: str) -> Any:
    return open_file(path, keys)


def in_order(array: Any, environments: int) -> Any:
    """tianshou lists environment after environment; here time comes first."""
    return np.swapaxes(array.reshape(environments, -1, *array.shape[1:]), 0, 1)


@pytest.mark.parametrize(
    ("name", "environments", "overwritten"),
    [("part", 1, False), ("wrapped", 1, True), ("vector", 2, True), ("uneven", 1, True)],
)
def test_tianshou_buffers_in_order_of_collection(name: str, environments: int, overwritten: bool) -> None:
    found = opened(FILES / "tianshou" / f"{name}.h5")
    expected = {key: in_order(TIANSHOU[f"{name}/{key}"], environments) for key in ("obs", "obs_next", "act")}
    assert (found.format, found.num_environments, found.overwritten) == (
        "tianshou",
        environments,
        overwritten,
    )
    np.testing.assert_array_equal(found.observations[""], expected["obs"])
    np.testing.assert_array_equal(found.next_observations[""], expected["obs_next"])
    np.testing.assert_array_equal(found.actions[..., 0], expected["act"])
    np.testing.assert_array_equal(found.rewards, in_order(TIANSHOU[f"{name}/rew"], environments))
    np.testing.assert_array_equal(found.ends, in_order(TIANSHOU[f"{name}/terminated"], environments))
    assert found.num_rows == TIANSHOU[f"{name}/rew"].size
    assert found.capacity == {"part": 20}.get(name, 10)
    assert any("one after the other" in note for note in found.notes) is (name == "uneven")


def test_tianshou_dict_observations_have_keys() -> None:
    found = opened(FILES / "tianshou" / "keys.h5")
    for key in ("market", "position"):
        expected = TIANSHOU[f"keys/obs.{key}"].reshape(10, 1, -1)
        np.testing.assert_array_equal(found.observations[key], expected)


@pytest.mark.parametrize(("name", "keys"), [("plain", [""]), ("tuple", ["0", "1"])])
def test_d3rlpy_gives_the_transitions_that_it_picks_itself(name: str, keys: list[str]) -> None:
    found = opened(FILES / "d3rlpy_dataset" / f"{name}.h5")
    assert found.format == "d3rlpy-dataset"
    for key in keys:
        suffix = f".{key}" if key else ""
        observations, following = (
            D3RLPY[f"{name}/{each}{suffix}"] for each in ("observation", "next_observation")
        )
        np.testing.assert_array_equal(found.observations[key][:, 0], observations)
        np.testing.assert_array_equal(found.next_observations[key][:, 0], following)
    np.testing.assert_array_equal(found.actions[:, 0], D3RLPY[f"{name}/action"])
    np.testing.assert_array_equal(found.rewards, D3RLPY[f"{name}/reward"])
    np.testing.assert_array_equal(found.ends[:, 0], D3RLPY[f"{name}/terminal"])
    assert found.num_rows == 5 + 3 + 3


@pytest.mark.filterwarnings("ignore::UserWarning:minari")
@pytest.mark.parametrize("kind", ["hdf5", "arrow", "parquet"])
@pytest.mark.parametrize("below", ["", "data"])
def test_minari_in_all_its_storages(
    kind: str, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = minari_dataset(tmp_path, monkeypatch, kind, "replay-300-steps")
    found = opened(tmp_path / "replay-300-steps-v0" / below)
    episodes = list(dataset.iterate_episodes())
    assert [len(each.rewards) for each in episodes] == list(EPISODES)
    assert (found.format, found.num_rows, found.step) == ("minari", sum(EPISODES), 300)

    def joined(values: list[Any]) -> Any:
        array = np.concatenate(values)
        return array.reshape(len(array), 1, *(array.shape[1:] or (1,)))

    for key, part in (("market", None), ("position", None), ("pair.0", 0), ("pair.1", 1)):
        name = key.split(".")[0]
        held = [each.observations[name] for each in episodes]
        held = held if part is None else [each[part] for each in held]
        np.testing.assert_array_equal(found.observations[key], joined([each[:-1] for each in held]))
        np.testing.assert_array_equal(found.next_observations[key], joined([each[1:] for each in held]))
    np.testing.assert_array_equal(found.actions, joined([each.actions for each in episodes]))
    np.testing.assert_array_equal(found.rewards[:, 0], np.concatenate([each.rewards for each in episodes]))
    np.testing.assert_array_equal(found.ends[:, 0], np.concatenate([each.terminations for each in episodes]))


@pytest.mark.filterwarnings("ignore::UserWarning:minari")
def test_minaris_main_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari_dataset(tmp_path, monkeypatch, "hdf5")
    found = opened(tmp_path / "sample-v0" / "data" / "main_data.hdf5")
    assert (found.format, found.num_rows) == ("minari", sum(EPISODES))


def d4rl(file: h5py.Group, count: int = 6) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    arrays = {
        "observations": rng.normal(size=(count, 3)).astype(np.float32),
        "actions": rng.normal(size=(count, 2)).astype(">f8"),
        "rewards": rng.normal(size=count),
        "dones": np.ones(count, bool),
        "timeouts": np.arange(count) % 2 == 0,
    }
    for name, array in arrays.items():
        file.create_dataset(name, data=array, chunks=True, compression="gzip", shuffle=True, fletcher32=True)
    return arrays


@pytest.mark.parametrize("place", ["", "data", "a/b"])
def test_usual_names_in_the_root_or_one_group(place: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d_70_steps.hdf5", "w") as file:
        arrays = d4rl(file.create_group(place) if place else file)
        file["infos/qpos"] = np.zeros(3)
    found = opened(tmp_path / "d_70_steps.hdf5")
    np.testing.assert_array_equal(found.observations[""][:, 0], arrays["observations"])
    np.testing.assert_array_equal(found.actions[:, 0], arrays["actions"])
    np.testing.assert_array_equal(found.ends[:, 0], ~arrays["timeouts"])
    assert (found.format, found.step, found.next_observations) == ("hdf5", 70, None)


def test_the_users_own_paths(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        for name in ("train", "test"):
            d4rl(file.create_group(name), 6 if name == "train" else 4)
    with pytest.raises(UnreadableFile, match=r"several groups: 'test', 'train'"):
        opened(tmp_path / "d.h5")
    assert opened(tmp_path / "d.h5", observations="train/observations").num_rows == 6
    found = opened(tmp_path / "d.h5", observations="/test/observations", actions="test/rewards")
    assert (found.num_rows, found.actions.shape, found.rewards) == (4, (4, 1, 1), None)
    with pytest.raises(UnreadableFile, match="has no entry"):
        opened(tmp_path / "d.h5", observations="train/nothing")


def test_robomimic_demonstrations_in_numeric_order(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        for number, steps in ((10, 2), (2, 3)):
            demo = file.create_group(f"data/demo_{number}")
            demo["obs/pose"], demo["next_obs/pose"] = np.full((steps, 2), number), np.zeros((steps, 2))
            demo["actions"] = np.full((steps, 1), float(number))
    found = opened(tmp_path / "d.h5")
    assert found.actions.ravel().tolist() == [2, 2, 2, 10, 10]
    assert found.observations["pose"][:, 0, 0].tolist() == [2, 2, 2, 10, 10]


def test_files_of_something_else_are_foreign(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "model.weights.h5", "w") as file:
        file["layers/dense/vars/0"] = np.zeros((3, 2))
    with pytest.raises(ForeignFile, match="no entries that are called like a replay's"):
        opened(tmp_path / "model.weights.h5")


def test_many_rows_pass_in_blocks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(300_000, 20)).astype(np.float32)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("observations", data=observations, chunks=(777, 20), compression="lzf")
        file["actions"] = np.arange(300_000)
    found = opened(tmp_path / "d.h5")
    np.testing.assert_array_equal(found.observations[""][:, 0], observations)
    np.testing.assert_array_equal(found.actions.ravel(), np.arange(300_000))
