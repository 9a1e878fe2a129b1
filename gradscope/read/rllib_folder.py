"""RLlib checkpoints (ray 2): modules' weights, learners' optimizers, steps over the whole training.

Pickles of plain dicts with numpy arrays. The pickles that hold classes are looked through for the
algorithm's name alone. The old API stack keeps a folder for each policy instead of a learner group.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gradscope.read.checked_json import table
from gradscope.read.file_bytes import Foreign, Malformed, reading
from gradscope.read.folder_files import json_object, names_in, part_of
from gradscope.read.layers import StoredLayer, inert_note, lazy_layers, lazy_state
from gradscope.read.optimizer_state import NOT_MATCHED, NamedMoments, named_moments
from gradscope.read.pickled_arrays import pickled_dict
from gradscope.read.rllib_optimizers import module_moments, trained, why_none
from gradscope.read.rllib_steps import algorithm_name, known_steps
from gradscope.read.sniff_folder import RLLIB, RLLIB_MARK, folder_format
from gradscope.read.torch_archive import tensors_of
from gradscope.records import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gradscope.read.file_bytes import Section
    from gradscope.read.stored_tensor import StoredTensor

    Tensors = Mapping[str, StoredTensor]

ALGORITHM_STATE: Final = "algorithm_state.pkl"
CLASS: Final = "class_and_ctor_args.pkl"
LEARNER: Final = "learner_group/learner"
POLICIES: Final = "policies"
NO_GRADIENTS: Final = "an RLlib checkpoint holds no gradients"
MAX_MODULES: Final = 1_000
_INNOCENT: Final = re.compile(
    r"((ray|gymnasium|numpy|collections|torch)(\.\w+)+|packaging\.version\.\w+|builtins\.(int|float|bool|str))"
)


@dataclass(frozen=True, kw_only=True)
class RllibFolder:
    """Reader of RLlib's checkpoints."""

    format: str = RLLIB
    is_whole: bool = True

    def accepts(self, path: Path) -> bool:
        """Whether the folder's names are of this format."""
        return folder_format(names_in(path), ()) == self.format

    def parts(self, path: Path) -> tuple[Path, ...]:
        """Files below the folder; no link is followed."""
        found = (Path(here, name) for here, _, names in os.walk(path) for name in names)
        return tuple(sorted(each for each in found if each.is_file()))

    def read(self, path: Path) -> Snapshot:
        """Open a checkpoint; no weight is read before its layer is asked for.

        Raises:
            UnreadableFile: damaged, a part is missing, or no weights in it.
        """
        with reading(path):
            mark = json_object(part_of(path, RLLIB_MARK, RLLIB))
            state = pickled_dict(_part(path, ALGORITHM_STATE))
            modules = _old_modules(path, mark) if (path / POLICIES).is_dir() else _modules(path)
            layers = [layer for each in modules for layer in each.layers(len(modules) > 1)]
            if not layers:
                raise Foreign("holds no weights")
            known = known_steps(path, state.entries)
            unknown = dict.fromkeys((*(name for each in modules for name in each.unknown), *state.unknown))
            has_class = CLASS in names_in(path)
            return Snapshot(
                source=path,
                format=self.format,
                step=known.step,
                step_from=known.step_from,
                layers=lazy_layers(layers),
                state=lazy_state(_state(modules)),
                algorithm=algorithm_name(state.entries, _part(path, CLASS) if has_class else None),
                reasons=known.reasons,
                notes=known.notes + inert_note(tuple(unknown), _INNOCENT),
            )


@dataclass(frozen=True, kw_only=True)
class _Module:
    """The network of one policy."""

    id: str
    tensors: Tensors
    moments: Sequence[NamedMoments]
    unknown: tuple[str, ...]

    def layers(self, is_one_of_many: bool) -> Iterator[StoredLayer]:
        """Its parameters, with the module's name before theirs where there are several modules."""
        for name, weight in trained(self.tensors).items():
            moments = next((each.states[name] for each in self.moments if name in each.states), None)
            reasons = {"gradient": NO_GRADIENTS}
            if moments is None:
                reasons["moments"] = why_none(name, self.moments)
            shown = f"{self.id}.{name}" if is_one_of_many else name
            yield StoredLayer(name=shown, weight=weight, moments=moments, reasons=reasons)


def _modules(folder: Path) -> list[_Module]:
    """Of today's API: a module's weights and its learner's optimizers lie apart."""
    rl_module = f"{LEARNER}/rl_module"
    learner = pickled_dict(_part(folder, f"{LEARNER}/state.pkl"))
    optimizers = table(learner.entries.get("optimizer"))
    found = []
    for name in _folders(folder / rl_module):
        state = pickled_dict(_part(folder, f"{rl_module}/{name}/module_state.pkl"))
        tensors = tensors_of(dict(state.entries))
        moments = module_moments(name, trained(tensors), optimizers)
        unknown = (*state.unknown, *learner.unknown)
        found.append(_Module(id=name, tensors=tensors, moments=moments, unknown=unknown))
    return found


def _old_modules(folder: Path, mark: Mapping[str, object]) -> list[_Module]:
    """Of the API before: everything of a policy in one pickle."""
    listed = mark.get("policy_ids")
    names = [each for each in listed if isinstance(each, str)] if isinstance(listed, list) else []
    found = []
    for name in names[:MAX_MODULES] or _folders(folder / POLICIES):
        state = pickled_dict(_part(folder, f"{POLICIES}/{name}/policy_state.pkl"))
        tensors = tensors_of(state.entries.get("weights"))
        optimizers = state.entries.get("_optimizer_variables")
        own = optimizers if isinstance(optimizers, list) else []
        # SAC's are of the actor, of each critic and of alpha, and nothing says which is which.
        several = NamedMoments(reason=f"{NOT_MATCHED}: there are {len(own)} optimizers")
        moments = [named_moments(each, [trained(tensors)]) for each in own] if len(own) < 2 else [several]  # noqa: PLR2004
        found.append(_Module(id=name, tensors=tensors, moments=moments, unknown=state.unknown))
    return found


def _state(modules: Sequence[_Module]) -> Tensors:
    shown = len(modules) > 1
    return {
        f"{each.id}.{name}" if shown else name: tensor
        for each in modules
        for name, tensor in each.tensors.items()
    }


def _part(folder: Path, relative: str) -> Section:
    try:
        return part_of(folder, relative, RLLIB)
    except Malformed as error:
        if not relative.endswith(".pkl") or not (folder / relative).with_suffix(".msgpack").exists():
            raise
        raise Malformed("is saved as msgpack", "Save it with use_msgpack=False.") from error


def _folders(folder: Path) -> list[str]:
    """Names of the folders in it, links left out."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(each.name for each in entries if each.is_dir(follow_symlinks=False))
    except OSError as error:
        raise Malformed(f"lacks the folder {folder.name!r}", "Copy the whole folder again.") from error
    if len(found) > MAX_MODULES:
        raise Malformed(f"has {len(found)} modules; at most {MAX_MODULES} are read")
    return found
