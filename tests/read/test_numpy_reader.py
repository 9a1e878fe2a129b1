"""npz and npy files: replays, weights, and what is neither; all against what numpy itself loads."""

from __future__ import annotations

import io
import mmap
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from samples_rows import ROWS, experience

from gradscope.errors import ForeignFile, UnreadableFile
from gradscope.read import open_file
from gradscope.records import Origin, Replay, Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = "transitions_300_steps.npz"


def replay(path: Path, **keys: str) -> Replay:
    found = open_file(path, keys)
    assert isinstance(found, Replay)
    return found


def assert_rows(found: Replay, wanted: Mapping[str, Any]) -> None:
    np.testing.assert_array_equal(found.observations[""][:, 0], wanted["observations"])
    assert found.next_observations is not None
    np.testing.assert_array_equal(found.next_observations[""][:, 0], wanted["next_observations"])
    np.testing.assert_array_equal(np.asarray(found.actions)[:, 0], wanted["actions"])
    np.testing.assert_array_equal(np.asarray(found.rewards)[:, 0], wanted["rewards"])
    np.testing.assert_array_equal(np.asarray(found.ends)[:, 0], wanted["dones"])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_replay_under_usual_names(tmp_path: Path, save: Any) -> None:
    save(tmp_path / FILE, **experience(), infos=np.array([{}], object), env=np.array("Pendulum-v1"))
    found = replay(tmp_path / FILE)
    assert_rows(found, np.load(tmp_path / FILE))
    assert (found.format, found.step, found.step_from) == ("numpy", 300, "name")
    assert (found.num_rows, found.overwritten, found.notes) == (ROWS, False, ())


@pytest.mark.parametrize("dtype", [">f4", "<f8", "<f2"])
def test_byte_order_and_width(tmp_path: Path, dtype: str) -> None:
    whole = {name: np.asfortranarray(each.astype(dtype)) for name, each in experience().items()}
    np.savez(tmp_path / FILE, **whole)
    assert_rows(replay(tmp_path / FILE), whole)


def test_the_users_names(tmp_path: Path) -> None:
    np.savez(tmp_path / FILE, x=experience()["observations"], y=experience()["actions"])
    with pytest.raises(ForeignFile, match=r"holds 'x', 'y', which are no replay's names. Name them"):
        open_file(tmp_path / FILE)
    found = replay(tmp_path / FILE, observations="x", actions="y")
    np.testing.assert_array_equal(found.observations[""][:, 0], experience()["observations"])
    np.savez(tmp_path / FILE, **experience())
    with pytest.raises(UnreadableFile, match="has no entry 'nothing'"):
        open_file(tmp_path / FILE, {"actions": "nothing"})


def test_keys_of_a_dict_observation(tmp_path: Path) -> None:
    rows = experience()
    parts = {f"obs/{key}": rows["observations"] + value for value, key in enumerate(("image", "state"))}
    parts |= {f"next_obs/{key}": rows["next_observations"] for key in ("image", "state")}
    np.savez(tmp_path / FILE, **parts, act=rows["actions"], rew=rows["rewards"], done=rows["dones"])
    found = replay(tmp_path / FILE)
    assert set(found.observations) == {"image", "state"}
    np.testing.assert_array_equal(found.observations["state"][:, 0], rows["observations"] + 1)
    assert found.ring is not None
    assert found.ring.buffer_class == "stable_baselines3.common.buffers.DictReplayBuffer"


def test_records_by_field(tmp_path: Path) -> None:
    rows = experience()
    shape = [
        ("obs", "<f4", (3,)),
        ("act", "<f4", (2,)),
        ("rew", "<f4"),
        ("next_obs", "<f4", (3,)),
        ("done", "?"),
    ]
    records = np.zeros(ROWS, dtype=shape)
    for name, own in zip(("obs", "act", "rew", "next_obs", "done"), (0, 2, 3, 1, 4), strict=True):
        records[name] = list(rows.values())[own]
    np.save(tmp_path / "r.npy", records)
    assert_rows(replay(tmp_path / "r.npy"), rows)
    np.savez(tmp_path / "r.npz", rows=records)
    assert_rows(replay(tmp_path / "r.npz"), rows)
    aligned = np.zeros(ROWS, dtype=np.dtype([("obs", "i1"), ("rew", "<f8")], align=True))
    aligned["rew"] = rows["rewards"]
    np.save(tmp_path / "a.npy", aligned)
    np.testing.assert_array_equal(np.asarray(replay(tmp_path / "a.npy").rewards)[:, 0], aligned["rew"])


def test_one_array_of_observations(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", experience()["observations"])
    with pytest.raises(ForeignFile):
        open_file(tmp_path / "o.npy")
    assert replay(tmp_path / "o.npy", observations="0").num_rows == ROWS


def test_versions_of_npy(tmp_path: Path) -> None:
    rows = experience()["observations"]
    for version in ((1, 0), (2, 0), (3, 0)):
        stream = io.BytesIO()
        np.lib.format.write_array(stream, rows, version=version)
        (tmp_path / "o.npy").write_bytes(stream.getvalue())
        found = replay(tmp_path / "o.npy", observations="0")
        np.testing.assert_array_equal(found.observations[""][:, 0], rows)


def test_large_arrays_are_mapped(tmp_path: Path) -> None:
    rows = np.arange(9_000_000, dtype=np.int64).reshape(-1, 2)
    np.savez(tmp_path / FILE, obs=rows, act=np.zeros(len(rows), np.int8))
    found = replay(tmp_path / FILE).observations[""]
    base: Any = found
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base.obj, mmap.mmap)
    np.testing.assert_array_equal(found[[0, 77, -1], 0], rows[[0, 77, -1]])


def test_weights_and_gradients(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    state = {name: each.numpy() for name, each in module.state_dict().items()}
    gradient = np.zeros((2, 3), np.float32)
    np.savez(
        tmp_path / "ckpt.npz",
        **state,
        step=np.int64(70),
        **{"grads/0.weight": gradient, "0.bias.grad": gradient},
    )
    found = open_file(tmp_path / "ckpt.npz")
    assert isinstance(found, Snapshot)
    assert (found.format, found.step, found.step_from) == ("numpy", 70, "step")
    assert list(found.layers) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    layer = found.layers["0.weight"]
    assert (layer.origin, layer.shape) == (Origin.STORED, (2, 3))
    np.testing.assert_array_equal(layer.weight, state["0.weight"])
    np.testing.assert_array_equal(layer.gradient, gradient)
    assert "shape (2, 3) is not" in found.layers["0.bias"].reasons["gradient"]
    assert "no gradient of this" in found.layers["1.bias"].reasons["gradient"]
    assert set(found.state) == set(state)


EVALUATIONS = {"timesteps": np.arange(3), "results": np.ones((3, 5)), "ep_lengths": np.ones((3, 5), np.int64)}
FOREIGN: dict[str, dict[str, Any]] = {
    "evaluations of SB3": EVALUATIONS,
    "nameless": {"arr_0": np.zeros(3), "arr_1": np.zeros((3, 3))},
    "objects": {"episodes": np.array([{"obs": 1}], object)},
    "text": {"names": np.array(["a", "b"])},
    "dates": {"days": np.array(["2026-01-01"], "datetime64[D]")},
    "nothing": {},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_replay_and_no_weights(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "evaluations.npz", **FOREIGN[name])
    if name == "nothing":
        (tmp_path / "evaluations.npz").write_bytes(b"PK\x05\x06" + bytes(18))
    with pytest.raises(UnreadableFile) as caught:
        open_file(tmp_path / "evaluations.npz", {"observations": "x"} if name == "nameless" else {})
    assert isinstance(caught.value, ForeignFile) or name == "nothing"
    assert "\n" not in str(caught.value)


def header(descr: str, shape: str) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(8)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (header("'<f4'", f"({1 << 40},)"), "array of shape"),
        (header("'<f4'", "(-1,)"), "whose shape is no shape"),
        (header("[('obs', '<f4', (1099511627776,))]", "(1,)"), "holds"),
        (header("[('obs', '|O')]", "(1,)"), "holds"),
        (header("'|O'", "(1,)"), "Python objects"),
        (header("[('obs', [('a', '<f4')])]", "(1,)"), "holds"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "header|outside"),
        (b"\x93NUMPY\x07\x00\x01\x00{", "unknown version"),
    ],
)
def test_hostile_arrays_are_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "o.npy").write_bytes(content)
    with pytest.raises(UnreadableFile, match=words) as caught:
        open_file(tmp_path / "o.npy", {"observations": "0"})
    assert "\n" not in str(caught.value)


def test_named_objects_say_what_to_do(tmp_path: Path) -> None:
    np.savez(tmp_path / FILE, obs=np.array([{}] * 3, object), act=np.zeros(3))
    with pytest.raises(UnreadableFile, match="Python objects, not of plain numbers"):
        open_file(tmp_path / FILE)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["W1", "b1"], True),
        (["dense/kernel:0"], True),
        (["layer_w"], True),
        (["a", "b", "w", "scale"], False),
    ],
)
def test_which_names_are_parameters(tmp_path: Path, names: list[str], expected: bool) -> None:
    np.savez(tmp_path / "a.npz", **dict.fromkeys(names, np.ones((3, 2))))
    if expected:
        assert isinstance(open_file(tmp_path / "a.npz"), Snapshot)
    else:
        with pytest.raises(ForeignFile):
            open_file(tmp_path / "a.npz")
