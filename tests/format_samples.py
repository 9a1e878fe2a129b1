"""One small real file, or folder, for every reader; used by the contract tests and as seeds for fuzzing.

A maker gets an empty-enough folder and ``sb3_files`` (conftest.py) and returns the path of its sample.
Makers of one family of formats lie in a module of their own (samples_*.py) and are only listed here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import samples_folders
import samples_native
import samples_torch
import torch
from safetensors.torch import save_file
from samples_rows import npz_file, pickle_file, torchrl_folder

from gradscope.records import ROLLOUT_SCHEMA, SNAPSHOT_SCHEMA, TIMELINE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Maker = Callable[[Path, Callable[[str], Path]], Path]

RECORDS: Final[Mapping[str, str]] = {
    "sb3": "Snapshot",
    "torch": "Snapshot",
    "torch-legacy": "Snapshot",
    "torch-export": "Snapshot",
    "safetensors": "Snapshot",
    "gradscope": "Snapshot",
    "gradscope-timeline": "Timeline",
    "gradscope-rollout": "Rollout",
    "pickle": "Replay",
    "vec-normalize": "Normalizer",
    **samples_folders.RECORDS,
    "numpy": "Replay",
    "torchrl": "Replay",
    **samples_native.RECORDS,
}
"""What opening each reader's sample gives."""


def torch_file(folder: Path, _: object) -> Path:
    torch.save({"model": torch.nn.Linear(3, 2).state_dict(), "step": 3}, folder / "c.pt")
    return folder / "c.pt"


def safetensors_file(folder: Path, _: object) -> Path:
    save_file(torch.nn.Linear(3, 2).state_dict(), folder / "m.safetensors")
    return folder / "m.safetensors"


def recorder_file(folder: Path, _: object) -> Path:
    layer = {"name": "weight", "shape": [2, 3]}
    document = json.dumps({"schema": SNAPSHOT_SCHEMA, "step": 3, "layers": [layer]})
    save_file({"gradient.weight": torch.ones(2, 3)}, folder / "r.safetensors", {"gradscope": document})
    return folder / "r.safetensors"


def rollout_file(folder: Path, _: object) -> Path:
    rollout = {"schema": ROLLOUT_SCHEMA, "step": 3, "algorithm": "PPO", "settings": {"ent_coef": 0.0}}
    names = ("values", "log_probs", "advantages", "returns", "episode_starts")
    arrays = {name: torch.ones(4, 1) for name in names}
    arrays |= {name: torch.ones(4, 1, 2) for name in ("actions", "observations")}
    save_file(arrays, folder / "o.safetensors", {"gradscope": json.dumps(rollout)})
    return folder / "o.safetensors"


def timeline_file(folder: Path, _: object) -> Path:
    header = {"schema": TIMELINE_SCHEMA, "optimizers": {"policy": []}}
    (folder / "gradscope_timeline.jsonl").write_text(json.dumps(header) + "\n")
    return folder / "gradscope_timeline.jsonl"


SAMPLES: Final[Mapping[str, Maker]] = {
    "sb3": lambda _, sb3_files: sb3_files("DQN") / "rl_model_64_steps.zip",
    "torch": torch_file,
    "torch-legacy": samples_torch.legacy_file,
    "torch-export": samples_torch.exported_file,
    "safetensors": safetensors_file,
    "gradscope": recorder_file,
    "gradscope-timeline": timeline_file,
    "gradscope-rollout": rollout_file,
    "pickle": pickle_file,
    "vec-normalize": lambda _, sb3_files: sb3_files("DQN") / "rl_model_vecnormalize_64_steps.pkl",
    **samples_folders.SAMPLES,
    "numpy": npz_file,
    "torchrl": torchrl_folder,
    **samples_native.SAMPLES,
}
