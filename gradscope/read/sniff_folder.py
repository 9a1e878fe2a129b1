"""Which folders are one artifact, told by the names in them; the bytes are looked at by their reader."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    Listing = Callable[[Collection[str], Collection[str]], bool]

RLLIB: Final = "rllib"
TRAINER: Final = "hf-trainer"
SHARDED: Final = "sharded"
DCP: Final = "dcp"
TORCHRL: Final = "torchrl"
D3RLPY_RUN: Final = "d3rlpy-run"

TRAINER_STATE: Final = "trainer_state.json"
SAFE_INDEX: Final = ".safetensors.index.json"
TORCH_INDEX: Final = ".bin.index.json"
SINGLE_WEIGHTS: Final = (
    "model.safetensors",
    "pytorch_model.bin",
    "adapter_model.safetensors",
    "adapter_model.bin",
)
"""What a Trainer may save weights as, where they are not sharded."""
RLLIB_MARK: Final = "rllib_checkpoint.json"
GRADIENT_LOG: Final = "_grad.csv"


def _is_rllib(files: Collection[str], _: Collection[str]) -> bool:
    return RLLIB_MARK in files


def _is_trainer(files: Collection[str], folders: Collection[str]) -> bool:
    has_weights = any(name in files for name in SINGLE_WEIGHTS) or _is_sharded(files, folders)
    return TRAINER_STATE in files and has_weights


def _is_sharded(files: Collection[str], _: Collection[str]) -> bool:
    return any(name.endswith((SAFE_INDEX, TORCH_INDEX)) for name in files)


def _is_dcp(files: Collection[str], _: Collection[str]) -> bool:
    # A save that was not finished has slices and no .metadata: it is written last.
    return any(name.endswith(".distcp") for name in files)


def _is_torchrl(files: Collection[str], folders: Collection[str]) -> bool:
    return "buffer_metadata.json" in files and "storage" in folders


def _is_d3rlpy_run(files: Collection[str], _: Collection[str]) -> bool:
    return "params.json" in files and any(name.endswith(GRADIENT_LOG) for name in files)


MINARI: Final = "minari"
MAIN_FILE: Final = "main_data.hdf5"
DATA: Final = "data"


def _is_minari(files: Collection[str], folders: Collection[str]) -> bool:
    """The folder ``data`` of a dataset; its parent holds nothing else."""
    return "metadata.json" in files and (MAIN_FILE in files or "0" in folders)


FOLDERS: Final[Mapping[str, Listing]] = {
    RLLIB: _is_rllib,
    TRAINER: _is_trainer,
    SHARDED: _is_sharded,
    DCP: _is_dcp,
    D3RLPY_RUN: _is_d3rlpy_run,
    TORCHRL: _is_torchrl,
    MINARI: _is_minari,
}
"""Reader's name -> whether a folder with these (file names, folder names) is one of its artifacts.

Names are those of the folder itself, hidden ones included, not of what lies below.
"""


def folder_format(files: Collection[str], folders: Collection[str]) -> str | None:
    """The reader that takes a folder with these names whole; None for an ordinary folder."""
    return next((name for name, is_one in FOLDERS.items() if is_one(files, folders)), None)


def format_of(path: Path) -> str | None:
    """The reader that takes this folder whole; None for an ordinary folder, or what is none."""
    try:
        files, folders = _names(path)
        found = folder_format(files, folders)
        if found is None and folders == [DATA] and all(name.startswith((".", "README")) for name in files):
            found = folder_format(*_names(path / DATA))
            return found if found == MINARI else None
    except (OSError, ValueError):
        return None
    return found


def _names(path: Path) -> tuple[list[str], list[str]]:
    """Names of files and of folders in a folder."""
    with os.scandir(path) as entries:
        kinds = {each.name: each.is_dir(follow_symlinks=False) for each in entries}
    return [name for name in kinds if not kinds[name]], [name for name in kinds if kinds[name]]
