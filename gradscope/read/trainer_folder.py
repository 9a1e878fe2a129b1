"""Checkpoints of Hugging Face's Trainer: weights, optimizer.pt and trainer_state.json in one folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradscope.read.checked_json import number, table
from gradscope.read.file_bytes import Foreign, Malformed, reading
from gradscope.read.folder_files import json_object, names_in, part_of, parts_named
from gradscope.read.grouped_moments import moments_in_groups
from gradscope.read.layers import StoredLayer, inert_note, lazy_layers, lazy_state, parameters
from gradscope.read.optimizer_state import NO_OPTIMIZER, NamedMoments
from gradscope.read.sharded import Weights, file_weights, index_name, sharded_weights
from gradscope.read.sniff_folder import SAFE_INDEX, SINGLE_WEIGHTS, TRAINER, TRAINER_STATE, folder_format
from gradscope.read.step_name import known_step, whole_number
from gradscope.read.torch_archive import TORCH_DETAILS, torch_archive
from gradscope.records import Clipping, Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gradscope.read.stored_tensor import StoredTensor
    from gradscope.read.torch_archive import TorchArchive

    Tensors = Mapping[str, StoredTensor]

OPTIMIZER: Final = "optimizer.pt"
STEP: Final = "global_step"
NO_GRADIENTS: Final = "a Trainer's checkpoint holds no gradients; recompute them with --model"
NOT_LOGGED: Final = f"{TRAINER_STATE} holds no grad_norm of this step: log every step (logging_steps=1)"
NOT_FINITE: Final = "the Trainer logged a norm that is not finite"
NO_LIMIT: Final = "max_grad_norm is in training_args.bin, a pickle that is not opened"


@dataclass(frozen=True, kw_only=True)
class TrainerFolder:
    """Reader of Trainer checkpoints; rng_state.pth and training_args.bin are never opened."""

    format: str = TRAINER
    is_whole: bool = False

    def accepts(self, path: Path) -> bool:
        """Whether the folder's names are of this format."""
        return folder_format(names_in(path), ()) == self.format

    def parts(self, path: Path) -> tuple[Path, ...]:
        """All files of the folder itself, tokenizer and configuration too, and DeepSpeed's shards of them."""
        own = parts_named(path, (name for name in names_in(path) if not name.startswith(".")))
        return own + tuple(
            shard for folder in _shards(path) for shard in parts_named(folder, names_in(folder))
        )

    def read(self, path: Path) -> Snapshot:
        """Open a checkpoint; no weight is read before its layer is asked for.

        Raises:
            UnreadableFile: damaged, a part is missing, or no weights in it.
        """
        with reading(path):
            names = names_in(path)
            state = json_object(part_of(path, TRAINER_STATE, TRAINER))
            found = _weights(path, names)
            weights = parameters(found.tensors)
            if not weights:
                raise Foreign("holds no weights")
            known = known_step(path, {STEP: state[STEP]} if STEP in state else {})
            log = _log(state, known.step)
            optimizer = _optimizer(path, names)
            moments = _moments(optimizer, found, weights)
            return Snapshot(
                source=path,
                format=self.format,
                step=known.step,
                step_from=known.step_from,
                layers=lazy_layers(_layer(name, each, moments) for name, each in weights.items()),
                state=lazy_state(found.tensors),
                clipping=_clipping(log, known.step),
                reasons=known.reasons,
                notes=(
                    *(*known.notes, *found.notes, *log.note()),
                    *(
                        f"DeepSpeed's shards in {each.name[:80]} were not opened"
                        for each in _shards(path)[:1]
                    ),
                    *inert_note(optimizer.unknown if optimizer else (), TORCH_DETAILS),
                ),
            )


def _shards(folder: Path) -> list[Path]:
    """Folders of DeepSpeed's own copy of the same checkpoint."""
    return sorted(each for each in folder.glob("global_step*") if each.is_dir() and not each.is_symlink())


def _weights(folder: Path, names: tuple[str, ...]) -> Weights:
    """Weights of the whole model, or an adapter's; safetensors before torch's own."""
    single, index = next((name for name in SINGLE_WEIGHTS if name in names), None), index_name(names)
    if index and (single is None or index.endswith(SAFE_INDEX)):
        return sharded_weights(folder, index)
    return file_weights(part_of(folder, single, TRAINER))


def _optimizer(folder: Path, names: tuple[str, ...]) -> TorchArchive | None:
    if OPTIMIZER not in names:
        return None
    try:
        return torch_archive(part_of(folder, OPTIMIZER, TRAINER))
    except Malformed as error:
        raise Malformed(f"{OPTIMIZER} {error.problem}", error.advice) from error


def _moments(optimizer: TorchArchive | None, weights: Weights, moving: Tensors) -> NamedMoments:
    if optimizer is None:
        return NamedMoments(reason=NO_OPTIMIZER)
    return moments_in_groups(optimizer.value, moving, is_in_order=weights.is_in_order)


def _layer(name: str, weight: StoredTensor, found: NamedMoments) -> StoredLayer:
    reasons = {"gradient": NO_GRADIENTS}
    if name not in found.states:
        reasons["moments"] = found.reason_of(name)
    return StoredLayer(name=name, weight=weight, moments=found.states.get(name), reasons=reasons)


@dataclass(frozen=True, kw_only=True)
class _Log:
    """Global gradient norms, before clipping, as the Trainer logged them."""

    norms: Mapping[int, float | None]
    """By step, the last entry of a step; None where it was not finite."""
    since: int
    """The step of the checkpoint before, as the Trainer's save_steps tells it."""

    def at(self, step: int | None) -> float | None:
        """The norm of a step."""
        return None if step is None else self.norms.get(step)

    def note(self) -> tuple[str, ...]:
        """What was logged since the checkpoint before; every checkpoint holds the whole log."""
        own = [norm for step, norm in self.norms.items() if step > self.since]
        finite = [norm for norm in own if norm is not None]
        parts = [f"{min(finite):.3g} to {max(finite):.3g}"] if finite else []
        zeros = sum(norm == 0 for norm in finite)
        parts += [f"{zeros} times exactly 0"] if zeros else []
        parts += [f"{len(own) - len(finite)} times not finite"] if len(own) > len(finite) else []
        return (f"gradient norm as logged since step {self.since}: {', '.join(parts)}",) if parts else ()


def _log(state: Mapping[str, object], step: int | None) -> _Log:
    history = state.get("log_history")
    found: dict[int, float | None] = {}
    for entry in (table(each) for each in (history if isinstance(history, list) else ())):
        logged = whole_number(entry.get("step"))
        if logged is not None and isinstance(entry.get("grad_norm"), (int, float)):
            found[logged] = number(entry["grad_norm"])
    every = whole_number(state.get("save_steps"))
    return _Log(norms=found, since=max(0, step - every) if step and every else 0)


def _clipping(log: _Log, step: int | None) -> Clipping:
    norm = log.at(step)
    reasons = {"clip_coefficient": NO_LIMIT}
    if norm is None:
        reasons["norm_before_clip"] = NOT_FINITE if step in log.norms else NOT_LOGGED
    return Clipping(norm_before_clip=norm, reasons=reasons)
