"""Which folders are one artifact, told by the names in them; the bytes are looked at by their reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

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


FOLDERS: Final[Mapping[str, Listing]] = {
    RLLIB: _is_rllib,
    TRAINER: _is_trainer,
    SHARDED: _is_sharded,
    DCP: _is_dcp,
    D3RLPY_RUN: _is_d3rlpy_run,
    TORCHRL: _is_torchrl,
}
"""Reader's name -> whether a folder with these (file names, folder names) is one of its artifacts.

Names are those of the folder itself, hidden ones included, not of what lies below.
"""


def folder_format(files: Collection[str], folders: Collection[str]) -> str | None:
    """The reader that takes a folder with these names whole; None for an ordinary folder."""
    return next((name for name, is_one in FOLDERS.items() if is_one(files, folders)), None)
