"""Seeds for every target from small real files: ``python -m fuzz.make_corpus FOLDER``, tests/ on the path.

What fuzzing reached beyond them is added by ``make fuzz``; run_all.py then keeps the smallest set that
covers the same.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import pickle
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from conftest import train_sb3
from format_samples import SAMPLES
from fuzz.folders import packed
from fuzz.targets import targets
from fuzz.zips import members_of, zip_of
from safetensors.torch import save

from gradscope.read.rollout_file import LSTM_NAMES
from gradscope.records import ROLLOUT_SCHEMA, SNAPSHOT_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OPTIMIZERS: Final[dict[str, Callable[[Any], Any]]] = {
    "adam": torch.optim.Adam,
    "amsgrad": lambda given: torch.optim.AdamW(given, amsgrad=True),
    "sgd": lambda given: torch.optim.SGD(given, 0.1, momentum=0.9),
    "rmsprop": lambda given: torch.optim.RMSprop(given, centered=True),
    "adagrad": torch.optim.Adagrad,
}


def seeds(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Pairs of a target's name and an input."""
    trained: dict[str, Path] = {}

    def sb3_files(algorithm: str) -> Path:
        if algorithm not in trained:
            trained[algorithm] = folder / algorithm
            buffer = {"buffer_size": 30} if algorithm in {"DQN", "SAC"} else {}
            train_sb3(algorithm, trained[algorithm], policy_kwargs={"net_arch": [4]}, **buffer)
        return trained[algorithm]

    for name, make in SAMPLES.items():
        made = folder / name
        made.mkdir()
        path = make(made, sb3_files)
        yield name, packed(path) if path.is_dir() else path.read_bytes()
    for algorithm in ("SAC", "PPO"):
        yield from _of_sb3(sb3_files(algorithm))
    yield from _of_sb3(sb3_files("DQN"))
    yield from _of_torch()
    yield from _of_numpy()
    yield from _of_texts()
    yield from _of_recorder()


def _of_sb3(folder: Path) -> Iterator[tuple[str, bytes]]:
    whole = (folder / "rl_model_64_steps.zip").read_bytes()
    members = members_of(whole)
    settings = json.loads(members["data"])
    yield "sb3", zip_of(members)
    yield "sb3-training", zip_of(members)
    yield "zip-members", zip_of({name: each[:100] for name, each in members.items()})
    yield "sb3-settings", members["data"]
    for each in settings.values():
        if isinstance(each, dict) and ":serialized:" in each:
            yield "sb3-pickles", base64.b64decode(each[":serialized:"])
    for path in folder.glob("*.pkl"):
        yield "pickle" if "buffer" in path.name else "vec-normalize", path.read_bytes()
        yield "pickle-machine", path.read_bytes()
    for name, each in members.items():
        if name.endswith(".pth"):
            yield "torch", zip_of(members_of(each))
            yield "optimizer-state" if "optim" in name else "torch-pickle", _pickle_of(each)


def _of_torch() -> Iterator[tuple[str, bytes]]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    for make in OPTIMIZERS.values():
        optimizer = make(model.parameters())
        model(torch.ones(4, 3)).sum().backward()
        optimizer.step()
        saved = _saved(optimizer.state_dict())
        yield "optimizer-state", _pickle_of(saved)
        whole = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 3}
        yield "torch", zip_of(members_of(_saved(whole)))
    named = torch.optim.Adam(model.named_parameters())
    named.step()
    yield "optimizer-state", _pickle_of(_saved(named.state_dict()))
    grads = {name: each.grad for name, each in model.named_parameters()}
    hyper = {"lr": np.float32(0.1), "path": Path("x"), "betas": (0.9, 0.99)}
    values = (
        {"state_dict": model.state_dict(), "grads": grads, "global_step": np.int64(5), "hparams": hyper},
        (model.state_dict(), model.state_dict()),
        model,
        {
            "w": torch.ones(2, 3).T,
            "x": torch.ones(2, dtype=torch.bfloat16),
            "c": torch.ones(2).to(torch.cfloat),
        },
        {"w": torch.ones(1).expand(3, 4), "p": torch.nn.Parameter(torch.ones(2)), "f": torch.ones(2).half()},
    )
    for value in values:
        yield "torch", zip_of(members_of(_saved(value)))
        yield "torch-pickle", _pickle_of(_saved(value))
    yield "batch-file", zip_of(members_of(_saved({"obs": torch.ones(3, 2), "reward": torch.ones(3)})))


def _of_numpy() -> Iterator[tuple[str, bytes]]:
    arrays = [
        *(np.arange(6).astype(code).reshape(2, 3) for code in ("f4", "f8", ">i2", "u1", "c8", "?")),
        *(np.array(["a", "bcd"]), np.array([b"x"]), np.array(3.5), np.zeros((0, 3)), np.arange(20)[::3]),
        *(np.asfortranarray(np.ones((2, 3))), np.ones((2, 3, 4)).transpose(2, 0, 1), np.array([None])),
    ]
    for protocol in (2, 4, 5):
        yield "numpy-pickle", pickle.dumps(arrays[:6], protocol)
        yield "numpy-pickle", pickle.dumps(arrays[6:], protocol)
        yield "numpy-pickle", pickle.dumps([np.float32(1), np.int64(2), {"a": np.bool_(1)}], protocol)
        yield (
            "pickle-machine",
            pickle.dumps({"a": [1, -1, 1.5, None, True, "x", b"y", {1}, (2, 3)]}, protocol),
        )
    written = io.BytesIO()
    np.savez(written, obs=arrays[0], reward=arrays[1][:, 0])
    yield "batch-file", zip_of(members_of(written.getvalue()))
    for each in arrays[:9]:
        written = io.BytesIO()
        np.save(written, each, allow_pickle=False)
        yield "batch-file", written.getvalue()
        yield "npy-header", written.getvalue()[10:].partition(b"\n")[0]


def _of_texts() -> Iterator[tuple[str, bytes]]:
    names = (
        "rl_model_2000_steps.zip epoch=1-step=20.ckpt ckpt-2000 iter_5.pt model_0.d3 checkpoint-10 seed_3.pt"
    )
    for (
        name
    ) in f"{names} a_-5_steps step=1e9.pt 0000_global_step12.safetensors policy.17 update:3 run-7".split():
        yield "step-name", name.encode()
    timeline = {
        "schema": "gradscope/timeline/1",
        "zero_tolerance": 1e-8,
        "sequence_length": 2,
        "slices": {"a": "0:1"},
    }
    timeline |= {
        "optimizers": {"p": [{"name": "w", "num_elements": 6}, {"name": "b", "num_elements": 2}], "q": []}
    }
    names = ("num_zero", "num_exact_zero", "num_expected", "norm")
    row = {
        "optimizer": "p",
        "step": 1,
        **{each: [0, 1] for each in names},
        "norm_before_clip": 0.5,
        "num_rows": 4,
    }
    lines = [timeline, row, {**row, "step": 2, "num_zero": [None, 1]}, timeline, {**row, "step": 2}]
    yield "gradscope-timeline", b"".join(json.dumps(each).encode() + b"\n" for each in lines)


def _of_recorder() -> Iterator[tuple[str, bytes]]:
    """All that a recorder file or a rollout can say."""
    optimizer = {
        "norm_before_clip": 2.0,
        "clip_coefficient": 0.25,
        "updates_after_save": 3,
        "reasons": {"a": "b"},
    }
    layers = [
        {"name": "w", "shape": [2], "baseline_zero_fraction": 0.1, "module": "Linear", "dtype": "float32"}
    ]
    layers.append({"name": "b", "shape": [1], "reason": "no gradient"})
    document = {"schema": SNAPSHOT_SCHEMA, "step": 3, "layers": layers, "optimizers": {"policy": optimizer}}
    document |= {
        "slices": {"a": ["0:1"]},
        "sequence_length": 2,
        "feature_names": ["x"],
        "reasons": {"num_rows": "x"},
    }
    document |= {"algorithm": "PPO", "num_batches": 1, "batch_size": 4, "num_rows": 4, "num_active": 2}
    tensors = {
        "gradient.w": torch.ones(2),
        "batch.observations.a": torch.ones(2, 1),
        "gradient.x": torch.ones(1),
    }
    yield "gradscope", save(tensors, {"gradscope": json.dumps(document)})
    settings = {"ent_coef": 0.0, "net_arch": {"pi": [4]}, "activation": None, "flag": True, "name": "x"}
    document = {"schema": ROLLOUT_SCHEMA, "step": 3, "algorithm": "RecurrentPPO", "settings": settings}
    names = ("values", "log_probs", "advantages", "returns", "episode_starts")
    tensors = {name: torch.ones(2, 1) for name in names}
    tensors |= {f"lstm_states.{name}": torch.ones(2, 1, 1, 2) for name in LSTM_NAMES}
    tensors |= {name: torch.ones(2, 1, 1) for name in ("actions", "observations.a", "observations.b")}
    yield "gradscope-rollout", save(tensors, {"gradscope": json.dumps(document)})
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.float8_e5m2)
    tensors = {f"a.{kind}": torch.ones(2).to(kind) for kind in kinds}
    yield "safetensors", save(tensors, {"step": "12", "format": "pt"})
    yield "batch-file", save({"obs": torch.ones(3, 2), "reward": torch.ones(3)})


def _saved(value: object) -> bytes:
    written = io.BytesIO()
    torch.save(value, written)
    return written.getvalue()


def _pickle_of(archive: bytes) -> bytes:
    return next(each for name, each in members_of(archive).items() if name.endswith("data.pkl"))


def without_places(content: bytes) -> bytes:
    """torch.export writes where torch is installed into its files; that is nobody's business."""
    if b"/site-packages/" not in content or not content.startswith(b"PK"):
        return content
    place = re.compile(rb'[^\s"\\]*/site-packages/')
    return zip_of({name: place.sub(b"", each) for name, each in members_of(content).items()})


def main() -> None:
    """Write the seeds, one folder a target."""
    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        for name, seed in seeds(Path(folder)):
            content = without_places(seed)
            assert name in targets(), name
            (target / name).mkdir(parents=True, exist_ok=True)
            (target / name / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)


if __name__ == "__main__":
    main()
