"""Small files that ask for much: what they refer to again and again is not read, counted or kept again."""

from __future__ import annotations

import base64
import io
import json
import pickle
import struct
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from gradscope.errors import UnreadableFile
from gradscope.read import open_file
from gradscope.read.batch_file import read_batch
from gradscope.read.sb3_blobs import sb3_blobs
from gradscope.read.sb3_training import sb3_training
from gradscope.records import SNAPSHOT_SCHEMA, TIMELINE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def cheap() -> Iterator[None]:
    """Fails where reading took seconds, or more memory than these small files justify."""
    tracemalloc.start()
    started = time.process_time()
    try:
        yield
        seconds, memory = time.process_time() - started, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seconds < 10
    assert memory < 100 << 20


def refused(read: Callable[[Path], object], path: Path) -> str:
    with cheap(), pytest.raises(UnreadableFile) as caught:
        read(path)
    return caught.value.reason


def opened(path: Path) -> Any:
    with cheap():
        return open_file(path)


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def sb3(path: Path, blob: bytes, **members: bytes) -> Path:
    entry = {":type:": "x", ":serialized:": base64.b64encode(blob).decode()}
    entries = {"policy_class": entry, "observation_space": entry, "policy_kwargs": entry, "num_timesteps": 3}
    weights = io.BytesIO()
    torch.save({"actor.weight": torch.ones(2, 2)}, weights)
    return zipped(path, {"data": json.dumps(entries).encode(), "policy.pth": weights.getvalue(), **members})


def test_members_of_a_zip_over_the_same_bytes(tmp_path: Path) -> None:
    """Nine arrays of 1 MB in a file of 1 MB; of 10,000, each would have been read whole."""
    one = io.BytesIO()
    np.save(one, np.zeros(10**6, np.uint8))
    path = zipped(tmp_path / "x.npz", {"a.npy": one.getvalue()})
    content = path.read_bytes()
    start, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    entry = content[start:end]
    directory = b"".join(entry.replace(b"a.npy", b"%d.npy" % n) for n in range(9))
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, len(directory), start, 0)
    path.write_bytes(content[:start] + directory + tail)
    assert "lies over another" in refused(read_batch, path)


def test_tensors_of_safetensors_over_the_same_bytes(tmp_path: Path) -> None:
    header = json.dumps({f"w{n}": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]} for n in range(9)})
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(8))
    assert "in the same bytes" in refused(open_file, path)


def test_empty_tensors_of_safetensors_lie_over_nothing(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(
        save({"a": torch.ones(2), "b": torch.ones(0), "c": torch.ones(0, 3)})
    )
    assert len(opened(tmp_path / "m.safetensors").layers) == 3


def test_a_tensor_with_thousands_of_names(tmp_path: Path) -> None:
    large = torch.ones(1 << 18)
    torch.save({f"w{n}": large.view(512, 512) for n in range(3)}, tmp_path / "honest.pt")
    assert len(opened(tmp_path / "honest.pt").layers) == 3
    torch.save({f"w{n}": large.view(512, 512) for n in range(3_000)}, tmp_path / "c.pt")
    assert "more than its size" in refused(open_file, tmp_path / "c.pt")


class Module:
    def __init__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state


def test_modules_of_endless_names(tmp_path: Path) -> None:
    weight, long = torch.ones(1), "x" * 500_000
    modules: dict[str, Any] = {"m": Module({"_parameters": {"w": weight}, "_modules": None})}
    for each in range(2_000):
        modules[f"n{each}"] = Module({"_parameters": {long: weight}, "_modules": {long: modules["m"]}})
    torch.save(Module({"_parameters": {"b": torch.ones(1)}, "_modules": modules}), tmp_path / "c.pt")
    assert list(opened(tmp_path / "c.pt").layers) == ["b", "m.w"]


@pytest.mark.parametrize("key", ["_parameters", "_modules", "_buffers"])
def test_modules_that_share_what_they_hold(key: str, tmp_path: Path) -> None:
    shared = {f"w{n}": None for n in range(20_000)}
    inner = [Module({"_parameters": {}, key: shared}) for _ in range(20_000)]
    modules = {f"m{n}": each for n, each in enumerate(inner)}
    torch.save(Module({"_parameters": {"b": torch.ones(1)}, "_modules": modules}), tmp_path / "c.pt")
    assert "without end" in refused(open_file, tmp_path / "c.pt")


@pytest.mark.parametrize("shared", ["groups", "params", "states", "nested"])
def test_an_optimizer_that_says_the_same_again_and_again(shared: str, tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    saved: dict[str, Any] = optimizer.state_dict()
    (group,) = saved["param_groups"]
    long = {f"s{n}": float(n) for n in range(6_000)}
    if shared == "groups":
        group.update(long)
        saved["param_groups"] = [group] * 6_000
    elif shared == "params":
        group["params"] = list(range(20_000))
        saved["param_groups"] = [dict(group) for _ in range(3_000)]
    elif shared == "states":
        saved["state"] = dict.fromkeys(range(20_000), long)
        group["params"] = list(range(20_000))
    else:
        nested: list[Any] = []
        for _ in range(100):
            nested = [nested, nested]
        group["params"] = [nested, 1]
    torch.save({"model": model.state_dict(), "optimizer": saved}, tmp_path / "c.pt")
    layers = opened(tmp_path / "c.pt").layers
    assert (not layers["weight"].moments) == (shared != "groups")
    written = io.BytesIO()
    torch.save(saved, written)
    path = sb3(tmp_path / "m.zip", pickle.dumps(None), **{"actor.optimizer.pth": written.getvalue()})
    if shared == "states":
        with pytest.raises(UnreadableFile, match="one state for several parameters"):
            sb3_training(path)
    else:
        assert list(sb3_training(path).optimizers) == ["actor"]


def test_storages_of_an_old_torch_file_listed_without_end(tmp_path: Path) -> None:
    """The text of a list that holds itself twice, 100 times over, never ends."""
    torch.save({"w": torch.ones(2)}, tmp_path / "c.pt", _use_new_zipfile_serialization=False)
    content = (tmp_path / "c.pt").read_bytes()
    start = content.rindex(b"\x80\x02]")
    doubled = b"".join(b"q%ch%c\x86" % (index, index) for index in range(100))
    (tmp_path / "c.pt").write_bytes(content[:start] + b"\x80\x02](N" + doubled + b"e.")
    assert "does not list the storages" in refused(open_file, tmp_path / "c.pt")


def test_ends_of_two_shapes_are_not_spread_over_each_other(tmp_path: Path) -> None:
    pickled = pickle.dumps(
        {
            "observations": np.zeros((1, 1, 3)),
            "dones": np.zeros((1, 1, 30_000, 1), np.float32),
            "timeouts": np.zeros((1, 1, 1, 30_000), np.float32),
            "pos": 1,
            "full": False,
        },
        4,
    )
    path = tmp_path / "b.pkl"
    path.write_bytes(
        b"\x80\x04cstable_baselines3.common.buffers\nReplayBuffer\n)\x81"
        + pickled[2:-1].replace(pickled[2:11], b"")
        + b"b."
    )
    assert "ends of shapes" in refused(open_file, path)


def test_a_space_of_thousands_of_entries_is_none(tmp_path: Path) -> None:
    gymnasium = pytest.importorskip("gymnasium")
    box = gymnasium.spaces.Box(0, 255, (500_000,), np.uint8)
    pickled = pickle.dumps(gymnasium.spaces.Dict({"a": box}))
    assert sb3_training(sb3(tmp_path / "m.zip", pickled)).space is not None
    many = gymnasium.spaces.Dict({"a": box})
    many.spaces.update(dict.fromkeys((f"k{n}" for n in range(20_000)), box))
    assert sb3_training(sb3(tmp_path / "n.zip", pickle.dumps(many))).space is None


def test_a_policy_that_carries_thousands_of_functions(tmp_path: Path) -> None:
    call = "ccloudpickle.cloudpickle\n{}\n(NX\x05\0\0\0{:05d}X\x05\0\0\0{:05d}tR"
    calls = "".join(
        call.format(name, n, n) for n in range(5_000) for name in ("_make_skeleton_class", "_make_function")
    )
    assert "carries more than 1000" in refused(
        sb3_blobs, sb3(tmp_path / "m.zip", b"\x80\x04(" + calls.encode() + b"t.")
    )


def test_a_timeline_of_thousands_of_restarts_and_optimizers(tmp_path: Path) -> None:
    header = {"schema": TIMELINE_SCHEMA, "optimizers": {"o0": []}}
    row = {"optimizer": "o0", **{key: [] for key in ("num_zero", "num_exact_zero", "num_expected", "norm")}}
    restarts = [line for step in range(15_000) for line in (header, {**row, "step": step})]
    many = {**header, "optimizers": {f"o{n}": [] for n in range(15_000)}}
    for name, lines in (("a", restarts), ("b", [many, *[{**row, "step": 1}] * 15_000])):
        path = tmp_path / f"{name}_gradscope.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        started = time.process_time()
        assert open_file(path).num_rows == 15_000
        assert time.process_time() - started < 3


def test_a_recorder_file_of_thousands_of_layers_and_reasons(tmp_path: Path) -> None:
    layers = [{"name": f"w{n}", "shape": []} for n in range(10_000)]
    reasons = {f"r{n}": "x" for n in range(10_000)}
    document = json.dumps({"schema": SNAPSHOT_SCHEMA, "layers": layers, "reasons": reasons})
    (tmp_path / "r.safetensors").write_bytes(save({"x": torch.ones(1)}, {"gradscope": document}))
    assert len(opened(tmp_path / "r.safetensors").layers) == 10_000


def test_statistics_of_thousands_of_observations(tmp_path: Path) -> None:
    class_ = b"cstable_baselines3.common.vec_env.vec_normalize\nVecNormalize\n)\x81"
    state = pickle.dumps({"norm_obs": True, "obs_rms": OrderedDict((f"k{n}", 1) for n in range(1_000))}, 2)
    (tmp_path / "v.pkl").write_bytes(b"\x80\x04" + class_ + state[2:-1] + b"b.")
    assert "statistics of 1000 observations" in refused(open_file, tmp_path / "v.pkl")
