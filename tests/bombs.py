"""Small files that would take all memory or for ever if what they share were counted each time it is met."""

from __future__ import annotations

import copy
import io
import json
import pickle
import struct
import zipfile
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from samples_folders import copied, dcp_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

WEIGHT: Final = {"a.weight": torch.ones(2, 2)}
LETTERS: Final = "x" * 1_000_000
NUMBERS: Final = {f"{place:x}": None for place in range(50_000)}
PICKLES: Final[Mapping[str, Callable[[], object]]] = {
    "one row of many fields": lambda: [(1.0, 2.0, 3.0, 4.0)] + [(None,) * 200_000] * 200_000,
    "one row of a hundred": lambda: [(0.5,) * 100] * 200_000,
    "one dict as rows": lambda: [{"obs": 1.0, "act": 1.0, "reward": 1.0}] + [NUMBERS] * 200_000,
    "one list under many names": lambda: {f"k{n}": _same([(1.0, 2.0, 3.0)] * 200_000) for n in range(1000)},
    "one dict under many names": lambda: dict.fromkeys(NUMBERS, NUMBERS | {"a": np.ones(1)}),
    "a long name before many": lambda: {LETTERS: {f"w{n}.weight": ONE for n in range(20_000)}},
    "a name that patterns are slow on": lambda: {"_weight" * 100_000 + "!": np.ones(3), "y": np.ones(2)},
    "rows without numbers": lambda: dict.fromkeys(("observations", "actions"), np.empty((1 << 31, 0))),
}
ONE: Final = np.ones(1, np.float32)
_KEPT: Final[dict[int, Any]] = {}


def _same(value: Any) -> Any:
    """One object however often it is made."""
    return _KEPT.setdefault(len(value), value)


def modules(entries: dict[str, Any], count: int) -> list[torch.nn.Module]:
    """Modules that hold one dict of modules."""
    made: list[torch.nn.Module] = [torch.nn.Identity() for _ in range(count)]
    for each in made:
        each.__dict__["_modules"] = entries
    return made


def modules_in_each_other() -> object:
    entries: dict[str, Any] = {}
    made = modules(entries, 600)
    entries |= {f"{place:x}": made[place % 600] for place in range(20_000)}
    return made[0]


def modules_of_nothing() -> object:
    entries: dict[str, Any] = dict(NUMBERS)
    made = modules(entries, 20)
    entries |= {f"m{place}": each for place, each in enumerate(made)}
    return made[0]


def module_of_a_long_name() -> object:
    inner, outer = torch.nn.Identity(), torch.nn.Identity()
    inner.__dict__["_parameters"] = views(torch.ones(1), 10_000)
    outer.__dict__["_modules"] = {LETTERS: inner}
    return outer


def views(tensor: torch.Tensor, count: int) -> dict[str, torch.Tensor]:
    return {f"a{place}.weight": tensor.view(-1)[:] for place in range(count)}


def optimizer(group: dict[str, Any], count: int = 1, state: object = None) -> object:
    return {"model": WEIGHT, "optimizer": {"state": state or {}, "param_groups": [group] * count}}


def states_of_one_dict() -> object:
    weights = {f"a{place}.weight": torch.ones(1) for place in range(2000)}
    state = {"state": dict.fromkeys(range(2000), NUMBERS), "param_groups": [{"params": list(range(2000))}]}
    return {"model": weights, "optimizer": state}


def rows_of_views() -> object:
    whole = torch.zeros(250_000)
    return [(whole[:], torch.ones(1), 1.0, whole[:], False) for _ in range(3000)]


TORCH: Final[Mapping[str, Callable[[], object]]] = {
    "modules in each other": modules_in_each_other,
    "modules of nothing": modules_of_nothing,
    "a module of a long name": module_of_a_long_name,
    "one group many times": lambda: optimizer({"params": list(range(100_000))}, 100_000),
    "one list in many settings": lambda: optimizer(
        {"params": [0], **dict.fromkeys(NUMBERS, [1] * 200_000)}, state={0: {"exp_avg": torch.ones(2, 2)}}
    ),
    "one dict as all states": states_of_one_dict,
    "one dict as all gradients": lambda: {"model": WEIGHT, "grads": dict.fromkeys(NUMBERS, NUMBERS)},
    "views as rows": rows_of_views,
    "views as observations": lambda: {"obs": views(torch.zeros(250_000), 3000), "act": torch.zeros(250_000)},
    "views as weights": lambda: {"model": views(torch.zeros(500_000), 10_000)},
}


def legacy_keys(folder: Path) -> Path:
    """The list of storages holds lists that hold each other."""
    value: list[Any] = []
    for _ in range(12):
        value = [value] * 10
    content = io.BytesIO()
    torch.save({"model": WEIGHT}, content, _use_new_zipfile_serialization=False)
    whole = content.getvalue()
    start = whole.rindex(b"\x80\x02]q\x00")
    end = whole.index(b".", start) + 1
    (folder / "m.pt").write_bytes(whole[:start] + pickle.dumps([value], protocol=2) + whole[end:])
    return folder / "m.pt"


def sets(folder: Path) -> Path:
    (folder / "m.pkl").write_bytes(b"\x80\x04(" + b"\x8f" * 4_000_000 + b"l.")
    return folder / "m.pkl"


def safetensors_on_each_other(folder: Path) -> Path:
    entry = {"dtype": "F32", "shape": [1 << 18], "data_offsets": [0, 1 << 20]}
    header = json.dumps({f"t{place}.weight": entry for place in range(20_000)}).encode()
    path = folder / "m.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(1 << 20))
    return path


def npz_on_each_other(folder: Path) -> Path:
    """A directory that lists one member under many names."""
    path, content = folder / "m.npz", io.BytesIO()
    np.save(content, np.zeros((1 << 17, 1)))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("obs/0.npy", content.getvalue())
        archive.writestr("act.npy", content.getvalue())
    whole = path.read_bytes()
    end = whole.rindex(b"PK\x05\x06")
    start = struct.unpack_from("<L", whole, end + 16)[0]
    entry, names = whole[start : start + 46], [f"obs/{place}.npy".encode() for place in range(1, 5000)]
    more = b"".join(entry[:28] + struct.pack("<H", len(name)) + entry[30:] + name for name in names)
    directory, tail = whole[start:end] + more, bytearray(whole[end:])
    struct.pack_into("<HHLL", tail, 8, 0xFFFF, 0xFFFF, len(directory), start)
    path.write_bytes(whole[:start] + directory + bytes(tail))
    return path


def d3rlpy_of_a_long_name(folder: Path) -> Path:
    path, inner = copied("d3rlpy/dead/model_10.d3", folder), io.BytesIO()
    torch.save({LETTERS: views(torch.ones(1), 10_000)}, inner)
    path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()) | {"torch": inner.getvalue()}))
    return path


def export_of_one_pickle(folder: Path) -> Path:
    path, inner = folder / "m.pt2", io.BytesIO()
    torch.save([[] for _ in range(150_000)], inner)
    entry = {"path_name": "weight_0", "is_param": True, "use_pickle": True, "tensor_meta": None}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/archive_format", "pt2")
        config = json.dumps({"config": {f"w{place}": entry for place in range(500)}})
        archive.writestr("m/data/weights/model_weights_config.json", config)
        archive.writestr("m/data/weights/weight_0", inner.getvalue())
    return path


def shards_of_one_file(folder: Path) -> Path:
    """One shard under names without end: a, ./a, ././a."""
    entries = {
        f"t{n}": {"dtype": "F32", "shape": [1], "data_offsets": [4 * n, 4 * n + 4]} for n in range(20_000)
    }
    header, path = json.dumps(entries).encode(), folder / "sharded"
    path.mkdir()
    (path / "m").write_bytes(len(header).to_bytes(8, "little") + header + bytes(80_000))
    places = {f"t{place}": "./" * place + "m" for place in range(1000)}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return path


def dcp_of_one_chunk(folder: Path) -> Path:
    """Empty chunks of one tensor, a list of them in many tensors."""
    path = dcp_folder(folder)
    value = pickle.loads((path / ".metadata").read_bytes())
    tensor = value.state_dict_metadata["model.0.weight"]
    empty = type(tensor.chunks[0])(torch.Size((0, 0)), torch.Size((0, 3)))
    tensor.chunks = [*tensor.chunks, *[empty] * 200_000]
    index = next(each for each in value.storage_data if each.fqn == "model.0.weight")
    for place in range(2000):
        other = copy.copy(index)
        object.__setattr__(other, "fqn", f"model.x{place}")
        value.storage_data[other] = value.storage_data[index]
        value.state_dict_metadata[other.fqn] = tensor
    (path / ".metadata").write_bytes(pickle.dumps(value))
    return path


def rllib_of_one_array(folder: Path) -> Path:
    """One array, not in order, under many names."""
    path = copied("rllib/ppo", folder)
    turned = np.ones((512, 512), np.float32)
    turned = np.asfortranarray(np.triu(turned))
    file = path / "learner_group/learner/rl_module/default_policy/module_state.pkl"
    value = pickle.loads(file.read_bytes())
    file.write_bytes(pickle.dumps(value | {f"k{place}.weight": turned for place in range(3000)}))
    return path


FILES: Final = (
    *(legacy_keys, sets, safetensors_on_each_other, npz_on_each_other, d3rlpy_of_a_long_name),
    *(export_of_one_pickle, shards_of_one_file, dcp_of_one_chunk, rllib_of_one_array),
)
