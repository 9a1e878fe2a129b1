"""A snapshot of what torch.save was given, whichever container it lies in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.read.batch_names import refuse_rows
from gradscope.read.file_bytes import Foreign, Malformed
from gradscope.read.layers import StoredLayer, inert_note, lazy_layers, lazy_state, parameters
from gradscope.read.pickle_stubs import is_text_keyed, named_entries
from gradscope.read.step_name import CONTENT_KEYS, KnownStep, known_step
from gradscope.read.stored_tensor import AbsentTensor, StoredTensor
from gradscope.read.torch_archive import TORCH_DETAILS, plain_number
from gradscope.read.torch_content import Content, content_of, is_lightning
from gradscope.read.torch_moments import optimizer_moments, reason_for
from gradscope.records import Origin, Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gradscope.read.optimizer_state import NamedMoments
    from gradscope.read.torch_archive import TorchArchive

NO_GRADIENTS: Final = "the checkpoint holds no gradients; store them under the key 'grads'"
NO_GRADIENT: Final = "no gradient reached this parameter"
WRONG_SHAPE: Final = "the stored gradient's shape {} is not the parameter's"
NOT_READ: Final = "the stored gradient {}"
NO_TENSOR: Final = "is no plain tensor"
TOO_LARGE: Final = "is a view of more elements than its file has bytes for"
SCRIPT: Final = "torchscript"
LIGHTNING: Final = "lightning"
_OF_SCRIPTS: Final = ("__torch__.", "torch.jit._pickle.")
_MAX_TOLD: Final = 3


def checkpoint_snapshot(path: Path, archive: TorchArchive, name: str) -> Snapshot:
    """The snapshot that an archive holds; ``name`` is the format of a plain one.

    Raises:
        Foreign: it holds neither weights nor gradients, or rows.
        Malformed: all its weights are views of more elements than it has bytes for, or no tensors.
    """
    refuse_rows(named_entries(archive.value))
    content = content_of(archive)
    layers = _layers(content)
    if not layers:
        told = absent_notes(content.state)
        if told:
            raise Malformed(f"holds no weights that can be read: {told[0]}", "Leave it out.")
        raise Foreign("holds no weights", "Save model.state_dict(), alone or under 'model'.")
    is_from_lightning = is_lightning(archive.value)
    step = _known_step(path, archive.value)
    return Snapshot(
        source=path,
        format=SCRIPT if archive.is_script else LIGHTNING if is_from_lightning else name,
        step=step.step,
        step_from=step.step_from,
        layers=lazy_layers(layers),
        state=lazy_state({k: v for k, v in content.state.items() if isinstance(v, StoredTensor)}),
        num_batches=1 if content.gradients else None,
        reasons=step.reasons,
        notes=(
            *step.notes,
            *(_lightning_notes(archive.value) if is_from_lightning else ()),
            *content.notes,
            *absent_notes(content.state),
            *inert_note(_code(archive), TORCH_DETAILS),
        ),
    )


def _code(archive: TorchArchive) -> tuple[str, ...]:
    """Names of code that was not loaded; of TorchScript not those that every file of it has."""
    if not archive.is_script:
        return archive.unknown
    return tuple(each for each in archive.unknown if not each.startswith(_OF_SCRIPTS))


def _known_step(path: Path, value: object) -> KnownStep:
    """Of the content, the name, or the folder."""
    known = named_entries(value)
    return known_step(path, {key: plain_number(known[key]) for key in CONTENT_KEYS if key in known})


def _lightning_notes(value: object) -> tuple[str, ...]:
    epoch = plain_number(value.get("epoch")) if is_text_keyed(value) else None
    return (f"Lightning's epoch is {epoch}",) if type(epoch) is int else ()


def _layers(content: Content) -> list[StoredLayer]:
    tensors = {k: v for k, v in content.parameters.items() if isinstance(v, StoredTensor)}
    weights = parameters(tensors, is_told=content.knows_parameters)
    optimizers = optimizer_moments(content, weights)
    gradients = content.gradients
    layers: list[StoredLayer] = []
    for name, tensor in content.parameters.items():
        if name in weights or (isinstance(tensor, AbsentTensor) and tensor.shape is not None):
            layers.append(_layer(name, tensor, content, optimizers))
    for name, gradient in (gradients or {}).items():
        if name not in content.state and isinstance(gradient, StoredTensor) and gradient.is_bounded:
            layers.append(_layer(name, None, content, optimizers))
    return layers


def _layer(
    name: str,
    weight: StoredTensor | AbsentTensor | None,
    content: Content,
    optimizers: Sequence[NamedMoments],
) -> StoredLayer:
    gradient, reason = _gradient(weight, content.gradients, name)
    reasons = {} if reason is None else {"gradient": reason}
    moments = next((each.states[name] for each in optimizers if name in each.states), None)
    if moments is None:
        reasons["moments"] = reason_for(name, optimizers)
    if isinstance(weight, AbsentTensor):
        reasons["weight"] = f"the weight {weight.reason}"
    return StoredLayer(
        name=name,
        weight=weight if isinstance(weight, StoredTensor) else None,
        gradient=gradient,
        moments=moments,
        reasons=reasons,
        origin=Origin.NONE if gradient is None else Origin.STORED,
        module=content.types.get(name) or None,
        absent=weight if isinstance(weight, AbsentTensor) else None,
    )


def _gradient(
    weight: StoredTensor | AbsentTensor | None, gradients: Mapping[str, object] | None, name: str
) -> tuple[StoredTensor | None, str | None]:
    if gradients is None:
        return None, NO_GRADIENTS
    gradient = gradients.get(name)
    if gradient is None:
        return None, NO_GRADIENT
    if not isinstance(gradient, StoredTensor) or not gradient.is_bounded:
        return None, NOT_READ.format(_why_absent(gradient))
    if weight is not None and gradient.shape != weight.shape:
        return None, WRONG_SHAPE.format(gradient.shape)
    return gradient, None


def _why_absent(value: object) -> str:
    if isinstance(value, AbsentTensor):
        return value.reason
    return TOO_LARGE if isinstance(value, StoredTensor) else NO_TENSOR


def absent_layer(name: str, weight: AbsentTensor, reasons: Mapping[str, str]) -> StoredLayer:
    """A layer whose weight cannot be read."""
    told = {"weight": f"the weight {weight.reason}"}
    return StoredLayer(name=name, absent=weight, reasons={**reasons, **told})


def absent_notes(state: Mapping[str, StoredTensor | AbsentTensor]) -> tuple[str, ...]:
    """Tensors of which there is no layer, or whose layer has no weight, and why."""
    told: dict[str, list[str]] = {}
    for name, tensor in state.items():
        if isinstance(tensor, AbsentTensor):
            told.setdefault(tensor.reason, []).append(name)
        elif not tensor.is_bounded:
            told.setdefault(TOO_LARGE, []).append(name)
    return tuple(_told(reason, names) for reason, names in list(told.items())[:_MAX_TOLD])


def _told(reason: str, names: Sequence[str]) -> str:
    left = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"not read: {names[0][:80]}{left} {reason}"
