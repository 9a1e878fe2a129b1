"""Folders made to do harm: planted calls, paths that lead out, counts and texts without end."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
import torch
from samples_folders import copied, dcp_folder, sharded_folder, trainer_folder

from gradscope.errors import UnreadableFile
from gradscope.read import open_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OUTSIDE = (
    "../secret",
    "/etc/passwd",
    "a/../../secret",
    "..\\secret",
    "./../secret",
    "",
    "\0",
    3,
    None,
    ["x"],
)


class Runs:
    """Unpickled by Python, it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def used(record: Any) -> Any:
    for layers in (getattr(record, "layers", {}), getattr(record, "state", {})):
        for value in getattr(layers, "values", tuple)():
            assert value is not None
    return record


def changed(path: Path, change: Callable[[Any], object]) -> None:
    """Unpickle a file with Python, change the value, pickle it again."""
    value = pickle.loads(path.read_bytes())
    change(value)
    path.write_bytes(pickle.dumps(value))


def planted_in_dcp(folder: Path, marker: Path) -> Path:
    path = dcp_folder(folder)
    changed(path / ".metadata", lambda value: setattr(value, "planner_data", Runs(marker)))
    return path


def planted_in_rllib(part: str) -> Callable[[Path, Path], Path]:
    def plant(folder: Path, marker: Path) -> Path:
        path = copied("rllib/ppo", folder)
        # The file with the class needs ray to be unpickled: it is written anew.
        kept = {"class": Runs} if part.startswith("class") else pickle.loads((path / part).read_bytes())
        (path / part).write_bytes(pickle.dumps({**kept, "x": Runs(marker)}))
        return path

    return plant


def planted_in_d3(folder: Path, marker: Path) -> Path:
    path = copied("d3rlpy/dead/model_10.d3", folder)
    changed(path, lambda value: value.update(x=Runs(marker)))
    return path


def planted_inside_d3(folder: Path, marker: Path) -> Path:
    path = copied("d3rlpy/dead/model_10.d3", folder)

    def change(value: Any) -> None:
        inner, content = torch.load(io.BytesIO(value["torch"])), io.BytesIO()
        torch.save({**inner, "x": Runs(marker)}, content)
        value["torch"] = content.getvalue()

    changed(path, change)
    return path


def planted_in_shard(folder: Path, marker: Path) -> Path:
    path = sharded_folder(folder, is_safe=False)
    shard = next(path.glob("*.bin"))
    torch.save({**torch.load(shard), "x": Runs(marker)}, shard)
    return path


def planted_in_trainer(folder: Path, marker: Path) -> Path:
    path = trainer_folder(folder)
    for name in ("training_args.bin", "rng_state.pth", "scheduler.pt", "optimizer.pt"):
        kept = torch.load(path / name) if name == "optimizer.pt" else {}
        torch.save({**kept, "x": Runs(marker)}, path / name)
    return path


@pytest.mark.parametrize(
    ("plant", "is_told"),
    [
        (planted_in_dcp, True),
        (planted_in_rllib("algorithm_state.pkl"), True),
        (planted_in_rllib("class_and_ctor_args.pkl"), False),
        (planted_in_rllib("learner_group/learner/state.pkl"), True),
        (planted_in_rllib("learner_group/learner/rl_module/default_policy/module_state.pkl"), True),
        (planted_in_d3, True),
        (planted_inside_d3, True),
        (planted_in_shard, True),
        (planted_in_trainer, True),
    ],
)
def test_nothing_in_a_folder_runs(plant: Callable[[Path, Path], Path], is_told: bool, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    record = used(open_file(plant(tmp_path, marker)))
    assert not marker.exists()
    assert any("mkdir" in note for note in record.notes) == is_told


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_index_that_leads_out_of_its_folder(name: object, tmp_path: Path) -> None:
    folder = sharded_folder(tmp_path)
    shutil.copy(next(folder.glob("*.safetensors")), tmp_path / "secret")
    index = next(folder.glob("*.index.json"))
    content = json.loads(index.read_text())
    content["weight_map"] = dict.fromkeys(content["weight_map"], name)
    index.write_text(json.dumps(content))
    with pytest.raises(UnreadableFile, match=r"leads out|without a name|lacks|no tensors"):
        open_file(folder)


@pytest.mark.parametrize("name", OUTSIDE)
def test_metadata_that_lead_out_of_their_folder(name: object, tmp_path: Path) -> None:
    folder = dcp_folder(tmp_path)
    shutil.copy(next(folder.glob("*.distcp")), tmp_path / "secret")

    def change(value: Any) -> None:
        for each in value.storage_data.values():
            each.relative_path = name

    changed(folder / ".metadata", change)
    with pytest.raises(UnreadableFile, match=r"leads out|without a name|lacks"):
        open_file(folder)


@pytest.mark.parametrize("policy", ["../../..", "/etc", "..", "a\0"])
def test_policies_that_lead_out_of_their_folder(policy: str, tmp_path: Path) -> None:
    folder = copied("rllib/old", tmp_path)
    mark = folder / "rllib_checkpoint.json"
    mark.write_text(json.dumps(json.loads(mark.read_text()) | {"policy_ids": [policy]}))
    with pytest.raises(UnreadableFile, match=r"leads out|without a name|lacks"):
        open_file(folder)


@pytest.mark.parametrize("make", [sharded_folder, dcp_folder])
def test_links_that_lead_out_of_the_folder_are_refused_and_those_within_followed(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = make(tmp_path)
    part = next(each for each in folder.iterdir() if each.suffix in {".safetensors", ".distcp"})
    part.rename(folder / "moved")
    part.symlink_to(folder / "moved")
    used(open_file(folder))
    (folder / "moved").rename(tmp_path / "moved")
    part.unlink()
    part.symlink_to(tmp_path / "moved")
    with pytest.raises(UnreadableFile, match="is a link that leads out of the folder"):
        open_file(folder)


@pytest.mark.parametrize(
    "text", ["[" * 10**6, '{"a":' * 10**5, "9" * 10**6, '{"weight_map": 3}', '{"weight_map": {"a": {}}}', "{"]
)
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (sharded_folder, "model.safetensors.index.json"),
        (lambda folder: copied("rllib/old", folder), "rllib_checkpoint.json"),
    ],
)
def test_json_without_end(make: Callable[[Path], Path], name: str, text: str, tmp_path: Path) -> None:
    folder = make(tmp_path)
    (folder / name).write_text(text)
    if name.startswith("rllib") and text.startswith('{"weight_map'):
        used(open_file(folder))
        return
    with pytest.raises(UnreadableFile) as caught:
        open_file(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("size", "offset", "sizes"),
    [
        ((1 << 40, 3), (0, 0), (1 << 40, 3)),
        ((4, 3), (0, 0), (4, 1 << 60)),
        ((4, 3), (1 << 50, 0), (4, 3)),
        ((4, 3), (0,), (4, 3)),
        ((4, 3), (0, 0), (2, 3)),
    ],
)
def test_chunks_that_lie_about_a_tensor(size: Any, offset: Any, sizes: Any, tmp_path: Path) -> None:
    folder = dcp_folder(tmp_path)

    def change(value: Any) -> None:
        found = value.state_dict_metadata["model.0.weight"]
        found.size, found.chunks[0].offsets, found.chunks[0].sizes = map(torch.Size, (size, offset, sizes))

    changed(folder / ".metadata", change)
    tracemalloc.start()
    with pytest.raises(UnreadableFile):
        used(open_file(folder))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 << 20


def test_chunks_that_lie_on_each_other_leave_a_hole_that_is_told(tmp_path: Path) -> None:
    folder = dcp_folder(tmp_path)

    def change(value: Any) -> None:
        metadata = value.state_dict_metadata["model.2.weight"]
        index = next(each for each in value.storage_data if each.fqn == "model.2.weight")
        metadata.size = torch.Size((4, 4))
        metadata.chunks = [
            metadata.chunks[0],
            type(metadata.chunks[0])(torch.Size((0, 0)), torch.Size((2, 4))),
        ]
        assert index.offset == torch.Size((0, 0))

    changed(folder / ".metadata", change)
    record = open_file(folder)
    with pytest.raises(UnreadableFile, match="twice and others not at all"):
        record.layers["2.weight"]


def test_shared_lists_are_looked_at_once(tmp_path: Path) -> None:
    folder = copied("rllib/ppo", tmp_path)
    value: list[Any] = []
    for _ in range(8):
        value = [value] * 1000
    path = folder / "algorithm_state.pkl"
    changed(path, lambda state: state.update(x=value, y={"a": value}))
    assert used(open_file(folder)).step == 128
