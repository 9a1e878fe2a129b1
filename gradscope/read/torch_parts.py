"""What a checkpoint's nested dicts hold: networks' tensors by path, optimizers by path, single tensors."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gradscope.read.file_bytes import Malformed
from gradscope.read.numpy_pickle import as_array
from gradscope.read.pickle_stubs import Stub, attributes, is_text_keyed, named_entries
from gradscope.read.stored_tensor import AbsentTensor, StoredTensor
from gradscope.read.torch_module import MAX_VISITS, is_module, module_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Tensor = StoredTensor | AbsentTensor
    Path = tuple[str, ...]

WHOLE_KEYS: Final = ("model_state_dict", "state_dict", "model", "net", "weights")
"""Keys of a whole model: what lies beside one is no part of it."""
WEIGHT_KEYS: Final = (*WHOLE_KEYS, "policy")
GRADIENT_KEYS: Final = ("grads", "gradients")
MAX_DEPTH: Final = 6
MAX_ENTRIES: Final = 100
"""Of a list of networks."""
MAX_CONTAINERS: Final = 20_000
_NETWORK: Final = re.compile(r".*\..*|(.*_)?(weight|bias)s?", re.DOTALL)
"""Names that a state dict has and a dict of statistics has not."""
_LOOSE: Final = re.compile(r"(log_)?(alpha|ent_coef|std|temp(erature)?)s?|logstd")
"""Parameters that stand alone beside networks, or in a module of their own (d3rlpy)."""
_MOMENTS: Final = frozenset(
    (
        "step",
        "exp_avg",
        "exp_avg_sq",
        "max_exp_avg_sq",
        "momentum_buffer",
        "square_avg",
        "grad_avg",
        "acc_delta",
        "sqr_avg",
    )
)
"""An optimizer's state of one parameter, where no optimizer is around it (DeepSpeed's shards, fastai)."""
_COPY: Final = re.compile(
    r"(^|[_.\- ])(ema|targets?|targ|tgt|swa|averaged?|avg|shadow|old|best|teacher)([_.\- ]|$)"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """One network's tensors, and where they were found."""

    path: Path
    state: Mapping[str, Tensor]
    parameters: Mapping[str, Tensor]
    """Those that may be trained; the same as ``state`` where the file does not tell."""
    types: Mapping[str, str] = field(default_factory=dict)
    is_whole: bool = False
    """A module pickled whole tells its buffers from its parameters."""

    @property
    def is_copy(self) -> bool:
        """Whether its keys call it an average or a target of another."""
        return any(_COPY.search(each.lower()) for each in self.path)

    @property
    def shown(self) -> str:
        """Its path as one text."""
        return ".".join(self.path)[:80]


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """Everything of use in a checkpoint."""

    networks: tuple[Part, ...]
    optimizers: Mapping[Path, object]
    loose: tuple[str, ...] = ()
    """Paths of tensors that belong to no network."""


def parts_of(value: object) -> Parts:
    """Look through dicts, lists and objects, each once; optimizers and modules are not entered.

    Raises:
        Malformed: modules are shared without end.
    """
    networks: list[Part] = []
    optimizers: dict[Path, object] = {}
    loose: list[str] = []
    met = 0
    for path, each in _containers(value):
        if is_optimizer(each):
            optimizers[path] = each
        elif isinstance(each, Stub) and is_module(each):
            found = module_tensors(each)
            met += found.num_visits
            if met > MAX_VISITS:
                raise Malformed(
                    "holds modules that hold each other without end", "Save its state_dict() instead."
                )
            networks.append(
                Part(
                    path=path,
                    state=found.state,
                    parameters=found.parameters,
                    types=found.types,
                    is_whole=True,
                )
            )
        else:
            own = _tensors(each)
            named = (
                own if _is_network(path, own, each) else {k: v for k, v in own.items() if _LOOSE.fullmatch(k)}
            )
            loose += [".".join((*path, k))[:80] for k, v in own.items() if k not in named and _is_large(v)]
            if named:
                networks.append(Part(path=path, state=named, parameters=named))
    return Parts(networks=tuple(networks), optimizers=optimizers, loose=tuple(loose))


def is_optimizer(value: object) -> bool:
    """Whether a value is what an optimizer's state_dict() gave, or an optimizer pickled whole."""
    known = attributes(value) if isinstance(value, Stub) else value
    return is_text_keyed(known) and isinstance(known.get("param_groups"), list) and "state" in known


def _containers(value: object) -> Iterator[tuple[Path, object]]:
    """Containers by path, depth first in file order, each once; none below an optimizer or a module."""
    waiting: list[tuple[Path, object]] = [((), value)]
    seen: set[int] = set()
    while waiting and len(seen) < MAX_CONTAINERS:
        path, each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield path, each
        if is_optimizer(each) or is_module(each) or len(path) >= MAX_DEPTH:
            continue
        waiting.extend(((*path, name), inner) for name, inner in reversed(_inner(path, each)))


def _inner(path: Path, value: object) -> list[tuple[str, object]]:
    if isinstance(value, (list, tuple)):
        entries: list[tuple[str, object]] = [(str(i), each) for i, each in enumerate(value[:MAX_ENTRIES])]
    else:
        known = attributes(value) if isinstance(value, Stub) else named_entries(value)
        entries = list(known.items())
    kinds = (dict, list, tuple, Stub)
    skipped = GRADIENT_KEYS if not path else ()
    return [(k[:80], each) for k, each in entries if isinstance(each, kinds) and k not in skipped]


def _tensors(value: object) -> dict[str, Tensor]:
    known = attributes(value) if isinstance(value, Stub) else named_entries(value)
    if isinstance(value, dict) and not any(isinstance(key, str) for key in value):
        return {}  # numbered tensors are no network's
    found: dict[str, Tensor] = {}
    for name, each in known.items():
        if isinstance(each, (StoredTensor, AbsentTensor)):
            found[name] = each
        elif isinstance(value, dict) and _NETWORK.fullmatch(name) and (reason := _no_tensor(each)):
            found[name] = AbsentTensor(reason=reason)
    # What stands for a tensor counts only beside tensors: a dict of settings may have such names too.
    if found.keys() <= _MOMENTS:
        return {}
    return (
        found
        if any(isinstance(each, StoredTensor) for each in found.values())
        else _absent_only(found, known)
    )


def _absent_only(found: Mapping[str, Tensor], known: Mapping[str, object]) -> dict[str, Tensor]:
    return {name: each for name, each in found.items() if each is known[name]}


def _no_tensor(value: object) -> str | None:
    """Why an entry of a state dict is no tensor, where it may stand for one: sharded tensors, arrays."""
    if as_array(value) is not None:
        return "is a numpy array, not a tensor"
    if isinstance(value, Stub) and not is_module(value) and "param_groups" not in attributes(value):
        return f"is an object of {value}, which only its own code can make"
    return None


def _is_network(path: Path, own: Mapping[str, Tensor], value: object) -> bool:
    """A top-level dict of nothing but tensors is one, whatever its names; below, names decide."""
    if any(_NETWORK.fullmatch(name) for name in own):
        return True
    if path and (path[-1] in WEIGHT_KEYS or path[-1].isdigit()):
        return True
    if path and _LOOSE.fullmatch(path[-1]) and own.keys() == {"_parameter"}:
        return True
    return len(path) == 0 and not any(isinstance(each, (dict, Stub)) for _, each in _inner(path, value))


def _is_large(tensor: Tensor) -> bool:
    """Counters, losses and the states of random generators are no loss."""
    return (
        isinstance(tensor, StoredTensor)
        and tensor.is_floating
        and 0 not in tensor.shape
        and any(size > 1 for size in tensor.shape)
    )
