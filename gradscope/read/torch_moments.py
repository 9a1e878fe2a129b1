"""Which optimizer of a checkpoint owns which parameters: by names, by identity, by counts and shapes."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Final

from gradscope.read.optimizer_numbers import are_bounded
from gradscope.read.optimizer_state import NO_OPTIMIZER, NOT_MATCHED, NamedMoments, named_moments
from gradscope.read.optimizer_within import moments_within
from gradscope.read.pickle_stubs import Stub, attributes, is_text_keyed
from gradscope.read.stored_tensor import StoredTensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.read.torch_content import Content

    Tensors = Mapping[str, StoredTensor]
    Path = tuple[str, ...]

MAX_OPTIMIZERS: Final = 16
MAX_NETWORKS: Final = 12
"""More have too many neighbours that an optimizer could own together."""
_NOISE: Final = re.compile(r"optimizers?|optims?|opts?|states?|dict|nets?|networks?|models?|agent|policy")
_WORDS: Final = re.compile(r"[^a-z0-9]+")


def optimizer_moments(content: Content, weights: Tensors) -> list[NamedMoments]:
    """State of every optimizer by parameter name, as far as it is proved.

    Where there are several: an optimizer called like one network owns that one if counts and shapes
    agree; any other owns the only run of neighbouring networks that fits and that no other owns.
    """
    if not content.optimizers:
        return [NamedMoments(reason=NO_OPTIMIZER)]
    if len(content.optimizers) > MAX_OPTIMIZERS:
        return [NamedMoments(reason=f"{NOT_MATCHED}: there are {len(content.optimizers)} optimizers")]
    names = {id(tensor): name for name, tensor in content.state.items()}
    plain = {path: _plain(each, names) for path, each in content.optimizers.items()}
    if len(plain) == 1:
        pools = [weights, *_neighbours(content, weights)] if len(content.networks) > 1 else [weights]
        return [_named(each, pools) for each in plain.values()]
    found: dict[Path, NamedMoments] = {}
    pools = [weights, *_neighbours(content, weights)]
    for path, each in plain.items():
        called = [pool for words, pool in _by_words(content, weights) if _alike(words, _words(path))]
        if len(called) == 1 and _is_settled(one := _named(each, called)):
            found[path] = one
    for _ in plain:
        waiting, before = [path for path in plain if path not in found], len(found)
        for path in waiting:
            taken = {name for one in found.values() for name in (*one.states, *one.reasons)}
            free = [pool for pool in pools if taken.isdisjoint(pool)]
            if _is_settled(one := _named(plain[path], free)):
                found[path] = one
        if len(found) == before:
            break
    taken = {name for one in found.values() for name in (*one.states, *one.reasons)}
    free = [pool for pool in pools if taken.isdisjoint(pool)]
    left = [_named(each, free) for path, each in plain.items() if path not in found]
    return [*found.values(), *left]


def reason_for(name: str, optimizers: Sequence[NamedMoments]) -> str:
    """Why a parameter has no state: what its own optimizer says, else one that may own it."""
    own = next((each.reasons[name] for each in optimizers if name in each.reasons), None)
    if own is not None:
        return own
    unsettled = next((each.reason for each in optimizers if not _is_settled(each)), None)
    return unsettled or optimizers[0].reason


def _named(optimizer: object, pools: Sequence[Tensors]) -> NamedMoments:
    """All of a pool, or else some of it: what the optimizer does not own are buffers, frozen or tied."""
    found = named_moments(optimizer, pools, is_plain=True)
    return moments_within(optimizer, pools) if found.reason == NOT_MATCHED else found


def _is_settled(found: NamedMoments) -> bool:
    return bool(found.states or found.reasons)


def _networks(content: Content, weights: Tensors) -> list[tuple[Path, Tensors]]:
    """Networks in file order; of a single state dict those under each first part of its names."""
    if len(content.networks) > 1:
        named = list(content.networks.items())
    else:
        named = [
            ((first,), list(each)) for first, each in groupby(weights, lambda name: name.partition(".")[0])
        ]
    return [(path, {name: weights[name] for name in names if name in weights}) for path, names in named]


def _neighbours(content: Content, weights: Tensors) -> list[Tensors]:
    """Every run of networks that lie side by side: twin critics have one optimizer."""
    each = [pool for _, pool in _networks(content, weights)][:MAX_NETWORKS]
    runs = [(start, end) for start in range(len(each)) for end in range(start + 1, len(each) + 1)]
    merged = [{k: v for pool in each[start:end] for k, v in pool.items()} for start, end in runs]
    return [pool for pool in merged if pool and len(pool) < len(weights)]


def _by_words(content: Content, weights: Tensors) -> list[tuple[Path, Tensors]]:
    return [(_words(path), pool) for path, pool in _networks(content, weights)]


def _words(path: Path) -> Path:
    """What a path is about: ("actor_optimizer",) and ("actor_state_dict",) are both about actor."""
    words = [word for each in path for word in _WORDS.split(each.lower()) if word]
    return tuple(word for word in words if not _NOISE.fullmatch(word) and not word.isdigit())


def _alike(first: Path, second: Path) -> bool:
    return bool(first) and first == second


def _plain(optimizer: object, names: Mapping[int, str]) -> object:
    """An optimizer as its state_dict(); of one pickled whole, whose state is keyed by the parameters."""
    if not isinstance(optimizer, Stub):
        return optimizer
    known = attributes(optimizer)
    groups, state = known.get("param_groups"), known.get("state")
    if not isinstance(groups, list) or not isinstance(state, dict) or not are_bounded(groups):
        return NOT_MATCHED
    numbered: dict[int, dict[str, object]] = {}
    plain: list[dict[str, object]] = []
    for group in groups:
        if not is_text_keyed(group) or not isinstance(params := group.get("params"), list):
            return NOT_MATCHED
        first = sum(len(each) for each in (one["params"] for one in plain) if isinstance(each, list))
        numbers = list(range(first, first + len(params)))
        entry = {**group, "params": numbers}
        if all(id(each) in names for each in params):
            entry["param_names"] = [names[id(each)] for each in params]
        plain.append(entry)
        numbered |= {
            number: state[each]
            for number, each in zip(numbers, params, strict=True)
            if isinstance(each, StoredTensor) and each in state
        }
    return {"state": numbered, "param_groups": plain}
