"""Folders that torchrl's ReplayBuffer.dumps wrote, against what the buffer itself holds."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from samples_rows import torchrl_folder
from tensordict import TensorDict
from torchrl.data import LazyMemmapStorage, LazyTensorStorage, ReplayBuffer, TensorDictReplayBuffer

from gradscope.errors import ForeignFile, UnreadableFile
from gradscope.read import folder_reader, open_file
from gradscope.records import Replay

if TYPE_CHECKING:
    from pathlib import Path

ROOM = 12


def opened(path: Path, **keys: str) -> Replay:
    found = open_file(path, keys)
    assert isinstance(found, Replay)
    assert found.format == "torchrl"
    return found


def items(first: int, *batch: int, nested: bool = False) -> TensorDict:
    """Rows that tell their number: first, first + 1, ..."""
    count = batch[0]
    rows = torch.arange(first, first + count).reshape(count, *[1] * len(batch)).float()
    here = rows.expand(*batch, 3).clone()
    flag = torch.zeros(*batch, 1, dtype=torch.bool)
    ends = {
        "done": flag | (rows % 3 == 2),
        "terminated": flag | (rows % 6 == 5),
        "truncated": flag | (rows % 6 == 2),
    }

    def seen(values: torch.Tensor) -> Any:
        return {"image": values.to(torch.uint8), "state": values} if nested else values

    following = {"observation": seen(here + 1), "reward": here[..., :1].clone(), **ends}
    action = torch.zeros(*batch, 2)
    return TensorDict({"observation": seen(here), "action": action, "done": flag, "next": following}, batch)


def dumped(path: Path, storage: Any, *batches: TensorDict) -> Any:
    buffer = TensorDictReplayBuffer(storage=storage, batch_size=4)
    for each in batches:
        buffer.extend(each)
    buffer.dumps(path)
    return buffer


@pytest.mark.parametrize("storage", [LazyMemmapStorage, LazyTensorStorage])
@pytest.mark.parametrize("rows", [1, 7, 12, 17, 24])
def test_rows_are_the_librarys(tmp_path: Path, storage: Any, rows: int) -> None:
    buffer = dumped(tmp_path / "b_50_steps", storage(ROOM), *(items(row, 1) for row in range(rows)))
    replay = opened(tmp_path / "b_50_steps")
    held = buffer[:]
    order = held["observation"][:, 0].argsort()
    assert replay.num_rows == len(held) == min(rows, ROOM)
    np.testing.assert_array_equal(replay.observations[""][:, 0], held["observation"][order])
    assert replay.next_observations is not None
    np.testing.assert_array_equal(replay.next_observations[""][:, 0], held["next", "observation"][order])
    np.testing.assert_array_equal(np.asarray(replay.actions)[:, 0], held["action"][order])
    np.testing.assert_array_equal(replay.rewards, held["next", "reward"][order])
    np.testing.assert_array_equal(replay.ends, held["next", "terminated"][order])
    assert (replay.overwritten, replay.capacity, replay.step) == (rows >= ROOM, ROOM, 50)
    assert replay.ring is not None


def test_keys_of_nested_observations(tmp_path: Path) -> None:
    dumped(tmp_path / "b", LazyTensorStorage(ROOM), items(0, 5, nested=True))
    replay = opened(tmp_path / "b")
    assert {key: each.dtype.name for key, each in replay.observations.items()} == {
        "image": "uint8",
        "state": "float32",
    }
    assert replay.observations["image"][:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert replay.next_observations is not None
    assert replay.next_observations["state"][:, 0, 0].tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("num_batches", [1, 2])
def test_time_by_environment(tmp_path: Path, num_batches: int) -> None:
    """Collectors give [environments, time]; the storage of two dimensions keeps [time, environments]."""
    batches = [items(10 * each, 4, 8) for each in range(num_batches)]
    buffer = dumped(tmp_path / "b", LazyTensorStorage(48, ndim=2), *batches)
    replay = opened(tmp_path / "b")
    held = buffer.storage[:]
    assert replay.num_environments == 4
    assert replay.num_rows == held.numel()
    cursor = json.loads((tmp_path / "b/writer/metadata.json").read_text())["cursor"]
    wanted = held["observation"].roll(-cursor if replay.overwritten else 0, dims=0)
    np.testing.assert_array_equal(replay.observations[""], wanted)
    assert np.asarray(replay.rewards).shape == np.asarray(replay.ends).shape == held.shape


def test_rows_side_by_side_in_a_plain_storage(tmp_path: Path) -> None:
    dumped(tmp_path / "b", LazyTensorStorage(ROOM), items(0, 5, 2))
    replay = opened(tmp_path / "b")
    assert (replay.num_environments, replay.num_rows) == (2, 10)
    assert replay.observations[""][:, 1, 0].tolist() == [0, 1, 2, 3, 4]


def test_other_names(tmp_path: Path) -> None:
    renamed = items(0, 5).rename_key_("observation", "lidar")
    renamed.rename_key_(("next", "observation"), ("next", "lidar"))
    dumped(tmp_path / "b", LazyTensorStorage(ROOM), renamed)
    with pytest.raises(ForeignFile, match=r"'lidar'.* no replay's names. Name them: --replay-keys"):
        open_file(tmp_path / "b")
    replay = opened(tmp_path / "b", observations="lidar")
    assert replay.next_observations is not None
    assert replay.next_observations[""][:, 0, 0].tolist() == [1, 2, 3, 4, 5]


def test_tensors_without_names_are_skipped(tmp_path: Path) -> None:
    buffer = ReplayBuffer(storage=LazyTensorStorage(ROOM), batch_size=4)
    buffer.extend(torch.ones(5, 3))
    buffer.dumps(tmp_path / "b")
    with pytest.raises(ForeignFile, match="its items are no TensorDict"):
        open_file(tmp_path / "b")


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    return torchrl_folder(tmp_path, None)


def rewritten(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


ENTRY = {"shape": [100, 3], "dtype": "torch.float32", "is_nested": False}


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("storage/meta.json", {"observation": {**ENTRY, "shape": [100, 4]}}, "has 1200 bytes"),
        ("storage/meta.json", {"observation": {**ENTRY, "shape": [1 << 60, 3]}}, "in a buffer of shape"),
        ("storage/meta.json", {"shape": [1 << 60]}, "in a buffer of shape"),
        ("storage/meta.json", {"shape": []}, "of no shape"),
        ("storage/meta.json", {"shape": "x"}, "whose shape is no shape"),
        ("storage/meta.json", {"../../secret": ENTRY}, "that is no name"),
        ("storage/meta.json", {"..": {"type": "TensorDict"}}, "that is no name"),
        ("storage/storage_metadata.json", {"len": 101}, "101 rows are written"),
        ("storage/storage_metadata.json", {"len": None}, "does not say how many rows"),
        ("writer/metadata.json", {"cursor": 1000}, "rows are written"),
    ],
)
def test_what_contradicts_itself(dump: Path, file: str, changes: dict[str, Any], words: str) -> None:
    rewritten(dump / file, **changes)
    with pytest.raises(UnreadableFile, match=words) as caught:
        open_file(dump)
    assert "\n" not in str(caught.value)


def test_damage(dump: Path) -> None:
    for name in ("storage/meta.json", "storage/storage_metadata.json", "storage/next/meta.json"):
        kept = (dump / name).read_bytes()
        for content in (b"", b"{", b"[1]", b"[" * 100_000):
            (dump / name).write_bytes(content)
            with pytest.raises(UnreadableFile):
                open_file(dump)
        (dump / name).write_bytes(kept)
    os.truncate(dump / "storage/observation.memmap", 1199)
    with pytest.raises(UnreadableFile, match="has 1199 bytes"):
        open_file(dump)
    (dump / "storage/observation.memmap").unlink()
    with pytest.raises(UnreadableFile, match="lacks"):
        open_file(dump)


def test_links_that_lead_out_are_refused(dump: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(1200))
    (dump / "storage/observation.memmap").unlink()
    (dump / "storage/observation.memmap").symlink_to(tmp_path / "secret")
    with pytest.raises(UnreadableFile, match="leads out of the folder"):
        open_file(dump)


def test_the_pickle_of_a_dump_is_not_opened(dump: Path) -> None:
    (dump / "prefetch.pkl").unlink(missing_ok=True)
    os.mkfifo(dump / "prefetch.pkl")  # would block for ever
    assert opened(dump).num_rows == 40


def test_a_writer_without_a_cursor(dump: Path) -> None:
    shutil.rmtree(dump / "writer")
    assert opened(dump).num_rows == 40
    reader = folder_reader(dump)
    assert reader is not None
    assert reader.accepts(dump)
