"""Spaces of real zips and of pickles that lie, read without unpickling."""

from __future__ import annotations

import json
import pickle
import zipfile
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, get_obs_shape, is_image_space

from gradscope.read.numpy_pickle import NUMPY_TABLE
from gradscope.read.safe_pickle import unpickled
from gradscope.read.sb3_space import Sb3Space, sb3_space
from gradscope.read.sb3_training import sb3_training

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLAIN: list[spaces.Space[Any]] = [
    spaces.Box(-1, 1, (2, 3), np.float32),
    spaces.Box(0, 255, (3, 36, 36), np.uint8),
    spaces.Box(0, 254, (3, 36, 36), np.uint8),
    spaces.Box(np.array([0, 1]), np.array([255, 255]), dtype=np.uint8),
    spaces.Box(-np.inf, np.inf, (4,), np.float64),
    spaces.Discrete(5),
    spaces.Discrete(5, start=2),
    spaces.MultiDiscrete([3, 4]),
    spaces.MultiBinary(6),
    spaces.MultiBinary([2, 3]),
]


def read(space: object) -> Sb3Space | None:
    return sb3_space(unpickled(cloudpickle.dumps(space), NUMPY_TABLE).value)


@pytest.mark.parametrize("space", PLAIN, ids=str)
def test_a_plain_space_is_what_the_library_makes_of_it(space: spaces.Space[Any]) -> None:
    found = read(space)
    assert found is not None
    assert found.kind == type(space).__name__
    assert found.shape == get_obs_shape(space)
    assert np.dtype(found.dtype) == space.dtype
    width = sum(found.num_values) if found.num_values else int(np.prod(found.shape))
    assert width == get_flattened_obs_dim(space)
    is_image = found.is_byte_range and found.dtype == "uint8" and len(found.shape) == 3
    assert is_image == is_image_space(space)
    assert found.entries == {}


def test_a_dict_keeps_its_order() -> None:
    space = spaces.Dict({"b": PLAIN[0], "a": PLAIN[5], "c": PLAIN[1]})
    found = read(space)
    assert found is not None
    assert (found.kind, list(found.entries)) == ("Dict", list(space.spaces))
    assert found.entries == {key: read(each) for key, each in space.spaces.items()}


UNKNOWN = {
    "nested": spaces.Dict({"a": spaces.Dict({"b": spaces.Discrete(2)})}),
    "tuple": spaces.Tuple([spaces.Discrete(2)]),
    "text": spaces.Text(4),
    "grid of numbers": spaces.MultiDiscrete([[2, 3], [4, 5]]),
    "no space": {"kind": "Box"},
    "nothing": None,
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_the_library_does_not_train_on_is_not_known(name: str) -> None:
    assert read(UNKNOWN[name]) is None


@pytest.mark.parametrize(
    "change",
    [{"_shape": (2, "3")}, {"_shape": [2, 3]}, {"_shape": (-1,)}, {"dtype": "float32"}, {"dtype": None}],
    ids=str,
)
def test_a_box_that_lies(change: dict[str, object]) -> None:
    space = spaces.Box(-1, 1, (2, 3), np.float32)
    vars(space).update(change)
    assert read(space) is None


@pytest.mark.parametrize("number", [0, -3, None, "4", 2.5])
def test_a_number_that_lies(number: object) -> None:
    space = spaces.Discrete(4)
    vars(space)["n"] = number
    assert read(space) is None


def test_spaces_of_a_checkpoint(sb3_files: Callable[[str], Path], tmp_path: Path) -> None:
    path = next(iter(sorted(sb3_files("SAC").glob("rl_model_*_steps.zip"))))
    found = sb3_training(path)
    assert found.space is not None
    assert found.action_space is not None
    assert (found.space.kind, found.action_space.kind) == ("Box", "Box")
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "m.zip", "w") as new:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "data":
                data = json.loads(content)
                data["observation_space"] = {":serialized:": "AAAA"}
                data["action_space"] = {":type:": "x", ":serialized:": pickle.dumps(3).hex()}
                content = json.dumps(data).encode()
            new.writestr(name, content)
    damaged = sb3_training(tmp_path / "m.zip")
    assert damaged.space is None
    assert damaged.action_space is None
