"""Which of a checkpoint's networks count, and what its layers are called."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gradscope.read.pickle_stubs import Stub, is_text_keyed, named_entries
from gradscope.read.stored_tensor import AbsentTensor, StoredTensor
from gradscope.read.torch_module import ModuleTensors, script_tensors
from gradscope.read.torch_parts import GRADIENT_KEYS, WHOLE_KEYS, Part, Parts, parts_of
from gradscope.records.wrapped import names_as

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gradscope.read.torch_archive import TorchArchive

    Tensor = StoredTensor | AbsentTensor

SCRIPT_NOTE: Final = "TorchScript does not tell parameters, buffers and other tensors apart: layers are {}"
LIGHTNING_KEY: Final = "pytorch-lightning_version"
_OPTIMIZERS: Final = ("optimizer_states",)
_AVERAGED: Final = ("current_model_state", "averaging_state")
"""Keys beside an average (lightning.pytorch.callbacks.WeightAveraging.on_save_checkpoint)."""
_MAX_LISTED: Final = 5
_MAX_NAME: Final = 80


@dataclass(frozen=True, kw_only=True, eq=False)
class Content:
    """A checkpoint's tensors by the names that its layers get."""

    state: Mapping[str, Tensor] = field(default_factory=dict)
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    knows_parameters: bool = False
    """Whether the file itself tells parameters from buffers."""
    networks: Mapping[tuple[str, ...], Sequence[str]] = field(default_factory=dict)
    """Names of each network's parameters, by its path."""
    gradients: Mapping[str, object] | None = None
    """Stored gradients by parameter name, None or a tensor each; None where nothing is stored."""
    optimizers: Mapping[tuple[str, ...], object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def content_of(archive: TorchArchive) -> Content:
    """Networks, gradients and optimizers of an archive."""
    if archive.is_script:
        return _script_content(archive)
    value = _told_apart(archive.value)
    found = parts_of(value)
    chosen, notes = _chosen(found)
    is_numbered = isinstance(value, (tuple, list))
    named = [("" if len(chosen) == 1 and not is_numbered else each.prefix, each.part) for each in chosen]
    parameters = {prefix + name: t for prefix, each in named for name, t in each.parameters.items()}
    gradients = _gradients(value)
    called = names_as(gradients or (), parameters)
    return Content(
        state={prefix + name: tensor for prefix, each in named for name, tensor in each.state.items()},
        parameters=parameters,
        types={prefix + name: kind for prefix, each in named for name, kind in each.types.items()},
        knows_parameters=bool(chosen) and all(each.is_whole for _, each in named),
        networks={each.path: [prefix + name for name in each.parameters] for prefix, each in named},
        gradients=gradients and {called[name]: each for name, each in gradients.items()},
        optimizers=found.optimizers,
        notes=notes,
    )


def is_lightning(value: object) -> bool:
    """Whether Lightning's Trainer wrote it."""
    return is_text_keyed(value) and LIGHTNING_KEY in value and "state_dict" in value


def _told_apart(value: object) -> object:
    """Of a Lightning checkpoint only what is the model's: callbacks and loops hold tensors of their own.

    Its WeightAveraging callbacks put the average in the place of the weights that are trained.
    """
    if not is_lightning(value):
        return value
    assert is_text_keyed(value)
    kept = {key: each for key, each in value.items() if key in {"state_dict", *_OPTIMIZERS, *GRADIENT_KEYS}}
    if not set(_AVERAGED) <= value.keys():
        return kept
    trained, average = value[_AVERAGED[0]], kept.pop("state_dict")
    return {**kept, _AVERAGED[0]: trained, "averaged state_dict": average}


def _script_content(archive: TorchArchive) -> Content:
    root = archive.value
    found = script_tensors(root) if isinstance(root, Stub) else ModuleTensors(state={}, parameters={})
    state, parameters = found.state, found.parameters
    if not state:
        # A frozen module has no attributes left: its code refers to constants by number.
        constants = {f"constants.{place}": each for place, each in enumerate(archive.constants)}
        state = {k: v for k, v in constants.items() if isinstance(v, (StoredTensor, AbsentTensor))}
        parameters = state
    is_told = any(isinstance(each, StoredTensor) and each.requires_grad for each in state.values())
    which = "those that require a gradient" if is_told else "all that could be trained"
    return Content(
        state=state,
        parameters=parameters,
        types=found.types,
        knows_parameters=is_told,
        networks={(): list(parameters)},
        notes=(SCRIPT_NOTE.format(which),),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Chosen:
    part: Part
    prefix: str
    """Of its names, where several networks are taken."""


def _chosen(found: Parts) -> tuple[list[_Chosen], tuple[str, ...]]:
    """The networks that train: a whole model alone, else all that are no copies of another."""
    whole = _whole(found.networks)
    online = [each for each in found.networks if not each.is_copy]
    parts = whole or online or list(found.networks)
    left = [each.shown or "the file itself" for each in found.networks if each not in parts]
    notes: list[str] = []
    if left:
        notes.append(f"weights are those of {_listed(each.shown or 'the file itself' for each in parts)}")
        notes.append(f"not looked at: {_listed(left)}")
    if parts and all(each.is_copy for each in parts):
        notes.append("only averaged or target copies of the weights are there")
    if found.loose and parts:
        notes.append(f"tensors of no network were left out: {_listed(found.loose)}")
    depth = 1 if whole else 0
    return [_Chosen(part=each, prefix="".join(f"{k}." for k in each.path[depth:])) for each in parts], tuple(
        notes
    )


def _whole(networks: Sequence[Part]) -> list[Part]:
    """What lies under the first usual key of a whole model."""
    for key in WHOLE_KEYS:
        if under := [each for each in networks if each.path[:1] == (key,)]:
            return [each for each in under if not each.is_copy] or under
    return []


def _gradients(value: object) -> Mapping[str, object] | None:
    """Gradients under a usual key; nested ones get their path as prefix, as networks do."""
    known = named_entries(value)
    found = named_entries(next((known[key] for key in GRADIENT_KEYS if key in known), None))
    if not found:
        return None
    flat: dict[str, object] = {}
    met: set[int] = set()
    for name, each in found.items():
        if not is_text_keyed(each):
            flat[name] = each
        elif id(each) not in met:
            # One dict under a thousand names would be a thousand dicts.
            met.add(id(each))
            flat |= {f"{name[:_MAX_NAME]}.{key}": one for key, one in each.items()}
    return flat


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    left = len(found) - _MAX_LISTED
    return ", ".join(found[:_MAX_LISTED]) + (f" and {left} more" if left > 0 else "")
