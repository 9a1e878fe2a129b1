"""Modules pickled whole, and TorchScript objects: their tensors by the names state_dict() gives them.

No class is loaded. A module's stub holds `_parameters`, `_buffers` and `_modules`; a TorchScript object
holds its tensors and children as plain attributes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gradscope.read.file_bytes import Malformed
from gradscope.read.pickle_stubs import Global, Stub, attributes, is_text_keyed
from gradscope.read.stored_tensor import AbsentTensor, StoredTensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Tensor = StoredTensor | AbsentTensor

MAX_NAME: Final = 1_000
"""Characters of a dotted name; a longer one is made by nesting without end."""
MAX_VISITS: Final = 100_000
"""Modules of a file, shared ones each time they are met; more is made by sharing without end."""
MAX_ENTRIES: Final = 1_000_000
"""Of all modules that are visited: about 20 each."""
ENDLESS: Final = "holds modules that hold each other without end"
MAX_TENSORS: Final = 200_000
"""Names of tensors of a file."""
COMPILED: Final = "OptimizedModule"
"""What torch.compile wraps a module in; pickled as a call of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ModuleTensors:
    """What a module's state_dict() holds, in its order; shared tensors under each of their names."""

    state: Mapping[str, Tensor]
    parameters: Mapping[str, Tensor]
    """Each tensor once, under its first name."""
    types: Mapping[str, str] = field(default_factory=dict)
    """Class of the module that owns a tensor, by the tensor's name."""
    num_visits: int = 0
    """Modules looked at."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Visit:
    prefix: str
    module: Stub
    above: tuple[int, ...] = ()
    """The modules that it lies in, by identity: one that holds itself is not entered again."""


def is_module(value: object) -> bool:
    """Whether a stub stands for a torch module."""
    return isinstance(value, Stub) and ("_parameters" in attributes(value) or _compiled(value) is not None)


def module_tensors(module: Stub) -> ModuleTensors:
    """Tensors of a pickled module.

    Raises:
        Malformed: modules are shared without end.
    """
    state: dict[str, Tensor] = {}
    parameters: dict[str, Tensor] = {}
    types: dict[str, str] = {}
    seen: set[int] = set()
    met = 0
    for each in _visits(_Visit(prefix="", module=module)):
        met += 1
        known = attributes(each.module)
        own = _tensors(known.get("_parameters"))
        passing = _names(known.get("_non_persistent_buffers_set"))
        buffers = {k: v for k, v in _tensors(known.get("_buffers")).items() if k not in passing}
        own, buffers = _short(each.prefix, own), _short(each.prefix, buffers)
        state |= {f"{each.prefix}{name}": tensor for name, tensor in (own | buffers).items()}
        _check(met, len(state))
        for name, tensor in own.items():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                parameters[each.prefix + name] = tensor
                types[each.prefix + name] = _type(each.module)
    return ModuleTensors(state=state, parameters=parameters, types=types, num_visits=met)


def script_tensors(root: Stub) -> ModuleTensors:
    """Tensors of a TorchScript object; parameters are those that require a gradient, if any does.

    Raises:
        Malformed: objects are shared without end.
    """
    state: dict[str, Tensor] = {}
    types: dict[str, str] = {}
    for met, each in enumerate(_visits(_Visit(prefix="", module=root))):
        _check(met, len(state))
        for name, tensor in _short(each.prefix, _tensors(attributes(each.module))).items():
            state[each.prefix + name] = tensor
            types[each.prefix + name] = _type(each.module)
    trained = {k: v for k, v in state.items() if isinstance(v, StoredTensor) and v.requires_grad}
    chosen = trained or state
    return ModuleTensors(state=state, parameters=_once(chosen), types={name: types[name] for name in chosen})


def is_script(value: object) -> bool:
    """Whether a stub stands for an object of TorchScript."""
    source = value.source if isinstance(value, Stub) else None
    return isinstance(source, Global) and source.module.partition(".")[0] == "__torch__"


def _visits(first: _Visit) -> Iterator[_Visit]:
    """The module and all below it, depth first in their order."""
    waiting, entries = [first], 0
    while waiting:
        each = waiting.pop()
        entries += _num_entries(each.module)
        if entries > MAX_ENTRIES:
            raise Malformed(ENDLESS, "Save its state_dict() instead.")
        yield each
        above = (*each.above, id(each.module))
        inner = [
            _Visit(prefix=f"{each.prefix}{name}.", module=child, above=above)
            for name, child in _children(each.module)
            if id(child) not in above and len(each.prefix) + len(name) < MAX_NAME
        ]
        waiting.extend(reversed(inner))


def _check(num_visits: int, num_tensors: int) -> None:
    if num_visits > MAX_VISITS or num_tensors > MAX_TENSORS:
        raise Malformed(ENDLESS, "Save its state_dict() instead.")


def _num_entries(module: Stub) -> int:
    """Entries that are looked at on a visit; modules can share them, and each costs a few bytes of a file."""
    known = attributes(module)
    inner = [known.get(name) for name in ("_parameters", "_buffers", "_modules")]
    return len(known) + sum(len(each) for each in inner if isinstance(each, dict))


def _short(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names are names."""
    return {name: each for name, each in tensors.items() if len(prefix) + len(name) < MAX_NAME}


def _children(module: Stub) -> list[tuple[str, Stub]]:
    compiled = _compiled(module)
    if compiled is not None:
        return [("_orig_mod", compiled)]
    known = attributes(module)
    found = known if is_script(module) else known.get("_modules")
    entries = found.items() if is_text_keyed(found) else ()
    return [(name, child) for name, child in entries if isinstance(child, Stub)]


def _compiled(module: Stub) -> Stub | None:
    source, given = module.source, module.arguments
    if not isinstance(source, Global) or source.name != COMPILED or not isinstance(given, tuple):
        return None
    return given[0] if given and isinstance(given[0], Stub) else None


def _tensors(value: object) -> dict[str, Tensor]:
    entries = value.items() if is_text_keyed(value) else ()
    return {name: each for name, each in entries if isinstance(each, (StoredTensor, AbsentTensor))}


def _names(value: object) -> frozenset[str]:
    """A pickled set of texts: protocol 2 writes it as a call with a list."""
    if isinstance(value, Stub) and isinstance(value.arguments, tuple) and value.arguments:
        value = value.arguments[0]
    if not isinstance(value, (list, set, frozenset)):
        return frozenset()
    return frozenset(each for each in value if isinstance(each, str))


def _type(module: Stub) -> str:
    return module.source.name.rpartition(".")[2][:100] if isinstance(module.source, Global) else ""


def _once(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    first: dict[int, str] = {}
    for name, tensor in tensors.items():
        first.setdefault(id(tensor), name)
    return {name: tensors[name] for name in first.values()}
