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
    from collections.abc import Iterable, Iterator, Mapping

    Tensor = StoredTensor | AbsentTensor

MAX_NAME: Final = 1_000
"""Characters of a dotted name; a longer one is made by nesting without end."""
MAX_VISITS: Final = 100_000
"""Modules of a file, shared ones each time they are met; more is made by sharing without end."""
MAX_ENTRIES: Final = 1_000_000
"""Of modules' dicts, shared ones each time they are met."""
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
    above: frozenset[int] = frozenset()
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
    work = _Work()
    for each in _visits(_Visit(prefix="", module=module), work):
        known = attributes(each.module)
        own = _short(each.prefix, _tensors(known.get("_parameters"), work))
        passing = _names(known.get("_non_persistent_buffers_set"), work)
        buffers = _short(each.prefix, _tensors(known.get("_buffers"), work))
        buffers = {k: v for k, v in buffers.items() if k not in passing}
        state |= {f"{each.prefix}{name}": tensor for name, tensor in (own | buffers).items()}
        work.check(len(state))
        for name, tensor in own.items():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                parameters[each.prefix + name] = tensor
                types[each.prefix + name] = _type(each.module)
    return ModuleTensors(state=state, parameters=parameters, types=types, num_visits=work.visits)


def script_tensors(root: Stub) -> ModuleTensors:
    """Tensors of a TorchScript object; parameters are those that require a gradient, if any does.

    Raises:
        Malformed: objects are shared without end.
    """
    state: dict[str, Tensor] = {}
    types: dict[str, str] = {}
    work = _Work()
    for each in _visits(_Visit(prefix="", module=root), work):
        for name, tensor in _short(each.prefix, _tensors(attributes(each.module), work)).items():
            state[each.prefix + name] = tensor
            types[each.prefix + name] = _type(each.module)
        work.check(len(state))
    trained = {k: v for k, v in state.items() if isinstance(v, StoredTensor) and v.requires_grad}
    chosen = trained or state
    return ModuleTensors(state=state, parameters=_once(chosen), types={name: types[name] for name in chosen})


def is_script(value: object) -> bool:
    """Whether a stub stands for an object of TorchScript."""
    source = value.source if isinstance(value, Stub) else None
    return isinstance(source, Global) and source.module.partition(".")[0] == "__torch__"


@dataclass(kw_only=True)
class _Work:
    """What was looked at so far: dicts of entries may be shared without end."""

    visits: int = 0
    entries: int = 0

    def check(self, num_tensors: int) -> None:
        """Stop where no honest file goes.

        Raises:
            Malformed: modules, their entries or their tensors are too many.
        """
        if self.visits > MAX_VISITS or self.entries > MAX_ENTRIES or num_tensors > MAX_TENSORS:
            raise Malformed(
                "holds modules that hold each other without end", "Save its state_dict() instead."
            )


def _visits(first: _Visit, work: _Work) -> Iterator[_Visit]:
    """The module and all below it, depth first in their order."""
    waiting = [iter((first,))]
    while waiting:
        each = next(waiting[-1], None)
        if each is None:
            waiting.pop()
            continue
        work.visits += 1
        yield each
        waiting.append(_below(each, work))


def _below(visit: _Visit, work: _Work) -> Iterator[_Visit]:
    """The modules directly in one, made one by one: a dict of them may be met at every level."""
    above = visit.above | {id(visit.module)}
    for name, child in _children(visit.module):
        work.entries += 1
        work.check(0)
        prefix = f"{visit.prefix}{name[: MAX_NAME + 1]}."
        if isinstance(child, Stub) and id(child) not in above and len(prefix) <= MAX_NAME:
            yield _Visit(prefix=prefix, module=child, above=above)


def _short(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names are names."""
    return {name: each for name, each in tensors.items() if len(prefix) + len(name) < MAX_NAME}


def _children(module: Stub) -> Iterable[tuple[str, object]]:
    compiled = _compiled(module)
    if compiled is not None:
        return [("_orig_mod", compiled)]
    known = attributes(module)
    found = known if is_script(module) else known.get("_modules")
    return found.items() if is_text_keyed(found) else ()


def _compiled(module: Stub) -> Stub | None:
    source, given = module.source, module.arguments
    if not isinstance(source, Global) or source.name != COMPILED or not isinstance(given, tuple):
        return None
    return given[0] if given and isinstance(given[0], Stub) else None


def _tensors(value: object, work: _Work) -> dict[str, Tensor]:
    entries = value.items() if is_text_keyed(value) else ()
    work.entries += len(entries)
    work.check(0)
    return {name: each for name, each in entries if isinstance(each, (StoredTensor, AbsentTensor))}


def _names(value: object, work: _Work) -> frozenset[str]:
    """A pickled set of texts: protocol 2 writes it as a call with a list."""
    if isinstance(value, Stub) and isinstance(value.arguments, tuple) and value.arguments:
        value = value.arguments[0]
    if not isinstance(value, (list, set, frozenset)):
        return frozenset()
    work.entries += len(value)
    work.check(0)
    return frozenset(each for each in value if isinstance(each, str))


def _type(module: Stub) -> str:
    return module.source.name.rpartition(".")[2][:100] if isinstance(module.source, Global) else ""


def _once(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    first: dict[int, str] = {}
    for name, tensor in tensors.items():
        first.setdefault(id(tensor), name)
    return {name: tensors[name] for name in first.values()}
