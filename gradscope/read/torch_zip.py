"""torch zip checkpoints (.pt, .pth, .ckpt): state dicts, and dicts of model, optimizer, gradients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gradscope.read import sniff
from gradscope.read.file_bytes import Malformed, head_or_nothing, reading, section_of
from gradscope.read.layers import StoredLayer, inert_note, lazy_layers, lazy_state, parameters
from gradscope.read.optimizer_state import NO_OPTIMIZER, NOT_MATCHED, NamedMoments, named_moments
from gradscope.read.pickle_stubs import is_text_keyed
from gradscope.read.step_name import CONTENT_KEYS, known_step
from gradscope.read.stored_tensor import StoredTensor
from gradscope.read.torch_archive import TORCH_DETAILS, plain_number, tensors_of, torch_archive
from gradscope.read.torch_saved_rows import saved_replay
from gradscope.records import Origin, Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gradscope.records import Replay

WEIGHT_KEYS: Final = ("model_state_dict", "state_dict", "model", "policy", "net", "weights")
OPTIMIZER_KEYS: Final = ("optimizer_state_dict", "optimizer", "optimizer_states", "optim")
GRADIENT_KEYS: Final = ("grads", "gradients")
NO_GRADIENTS: Final = "the checkpoint holds no gradients; store them under the key 'grads'"
NO_GRADIENT: Final = "no gradient reached this parameter"
WRONG_SHAPE: Final = "the stored gradient's shape {} is not the parameter's"
NOT_READ: Final = "the stored gradient is no plain tensor (sparse, quantized or not a tensor)"


@dataclass(frozen=True, kw_only=True)
class TorchZip:
    """Reader of torch zip checkpoints."""

    format: str = sniff.TORCH
    keys: Mapping[str, str] = field(default_factory=dict)

    def accepts(self, path: Path) -> bool:
        """Whether the first bytes are of this format."""
        return sniff.format_of(head_or_nothing(path)) == self.format

    def read(self, path: Path) -> Snapshot | Replay:
        """Open a checkpoint; no tensor is read before its layer is asked for.

        Raises:
            UnreadableFile: damaged, or no weights in it.
        """
        with reading(path):
            archive = torch_archive(section_of(path))
            if (replay := saved_replay(path, self.format, archive.value, self.keys)) is not None:
                return replay
            value = archive.value
            tensors = _weights(value)
            weights = parameters(tensors)
            gradients = _gradients(value)
            if not weights and not gradients:
                raise Malformed("holds no weights", "Save model.state_dict(), alone or under 'model'.")
            known = known_step(path, _step_content(value))
            return Snapshot(
                source=path,
                format=self.format,
                step=known.step,
                step_from=known.step_from,
                layers=lazy_layers(_layers(weights, gradients, optimizer_of(value))),
                state=lazy_state(tensors),
                num_batches=1 if gradients else None,
                reasons=known.reasons,
                notes=known.notes + inert_note(archive.unknown, TORCH_DETAILS),
            )


def _weights(value: object) -> Mapping[str, StoredTensor]:
    """The state dict a checkpoint is, holds under a usual key, or is a tuple of (CleanRL)."""
    if isinstance(value, (tuple, list)):
        return {
            f"{index}.{name}": tensor
            for index, each in enumerate(value[:100])
            for name, tensor in tensors_of(each).items()
        }
    if is_text_keyed(value):
        for key in WEIGHT_KEYS:
            if found := tensors_of(value.get(key)):
                return found
        if any(key in value for key in (*GRADIENT_KEYS, *OPTIMIZER_KEYS)):
            return {}
    return tensors_of(value)


def _gradients(value: object) -> Mapping[str, object] | None:
    """Stored gradients by parameter name, None or a tensor each; None where nothing is stored."""
    found = _first_of(value, GRADIENT_KEYS)
    return found if is_text_keyed(found) and found else None


def optimizer_of(value: object) -> object:
    """What a checkpoint holds under a usual key: one optimizer's state, or a list of several; None."""
    found = _first_of(value, OPTIMIZER_KEYS)
    return found[0] if isinstance(found, list) and len(found) == 1 else found


def _first_of(value: object, keys: tuple[str, ...]) -> object:
    if not is_text_keyed(value):
        return None
    return next((value[key] for key in keys if key in value), None)


def _step_content(value: object) -> Mapping[str, object]:
    if not is_text_keyed(value):
        return {}
    return {key: plain_number(value[key]) for key in CONTENT_KEYS if key in value}


def _layers(
    weights: Mapping[str, StoredTensor], gradients: Mapping[str, object] | None, optimizer: object
) -> list[StoredLayer]:
    found = _moments(weights, optimizer)
    names = list(weights)
    names += [
        name
        for name, tensor in (gradients or {}).items()
        if name not in weights and isinstance(tensor, StoredTensor) and tensor.is_bounded
    ]
    return [_layer(name, weights.get(name), gradients, found) for name in names]


def _moments(weights: Mapping[str, StoredTensor], optimizer: object) -> NamedMoments:
    if optimizer is None:
        return NamedMoments(reason=NO_OPTIMIZER)
    if isinstance(optimizer, list) and len(optimizer) > 1:
        return NamedMoments(reason=f"{NOT_MATCHED}: there are {len(optimizer)} optimizers")
    return named_moments(optimizer, [weights], is_plain=True)


def _layer(
    name: str,
    weight: StoredTensor | None,
    gradients: Mapping[str, object] | None,
    found: NamedMoments,
) -> StoredLayer:
    gradient, reason = _gradient(weight, gradients, name)
    reasons = {} if reason is None else {"gradient": reason}
    if name not in found.states:
        reasons["moments"] = found.reason_of(name)
    return StoredLayer(
        name=name,
        weight=weight,
        gradient=gradient,
        moments=found.states.get(name),
        reasons=reasons,
        origin=Origin.NONE if gradient is None else Origin.STORED,
    )


def _gradient(
    weight: StoredTensor | None, gradients: Mapping[str, object] | None, name: str
) -> tuple[StoredTensor | None, str | None]:
    if gradients is None:
        return None, NO_GRADIENTS
    gradient = gradients.get(name)
    if gradient is None:
        return None, NO_GRADIENT
    if not isinstance(gradient, StoredTensor) or not gradient.is_bounded:
        return None, NOT_READ
    if weight is not None and gradient.shape != weight.shape:
        return None, WRONG_SHAPE.format(gradient.shape)
    return gradient, None
