"""What d3rlpy saves of an algorithm: a dict of networks and of optimizers, named by what they do.

Optimizers list parameters network by network in the networks' own order (d3rlpy/algos/qlearning/*.py).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from gradscope.read.checked_json import table, text
from gradscope.read.layers import StoredLayer, parameters
from gradscope.read.optimizer_state import NO_OPTIMIZER, NOT_OWNED, NamedMoments, named_moments
from gradscope.read.torch_archive import tensors_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.read.stored_tensor import StoredTensor

    Tensors = Mapping[str, StoredTensor]

NO_GRADIENTS: Final = "a d3rlpy model holds no gradients; the run folder's *_grad.csv tell their norms"
MAX_CONFIG: Final = 16 << 20
"""Characters; scalers of image observations keep none of them."""
_MAX_NAME: Final = 80
_TARGET: Final = "targ_"
_OWNERS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "actor_optim": (("policy",),),
    "critic_optim": (("q_funcs",), ("q_funcs", "value_func")),
    "temp_optim": (("log_temp",),),
    "alpha_optim": (("log_alpha",),),
    "imitator_optim": (("imitator",), ("vae_encoder", "vae_decoder"), ("encoder", "decoder")),
    "value_optim": (("value_func",),),
}
"""Networks an optimizer may move; any other moves all networks of the file."""


def d3rlpy_tensors(value: object) -> Tensors:
    """Tensors of all networks, target networks too, as the run folder's files call them."""
    return {
        f"{network[:_MAX_NAME]}.{name}": tensor
        for network, state in table(value).items()
        if not network.endswith("optim")
        for name, tensor in tensors_of(state).items()
    }


def d3rlpy_layers(value: object) -> list[StoredLayer]:
    """Parameters that are trained, with their optimizer state."""
    weights = {
        name: each for name, each in parameters(d3rlpy_tensors(value)).items() if not name.startswith(_TARGET)
    }
    found = [_moments(key, each, weights) for key, each in table(value).items() if key.endswith("optim")]
    return [_layer(name, weight, found) for name, weight in weights.items()]


def algorithm_of(config: object) -> str | None:
    """The algorithm's name from a file's configuration, a JSON text: SAC, CQL, TD3_PLUS_BC."""
    if not isinstance(config, str) or len(config) > MAX_CONFIG:
        return None
    try:
        value = json.loads(config)
    except (ValueError, RecursionError):
        return None
    name = text(table(table(value).get("config")).get("type"))
    return name[:100].upper() if name else None


def _moments(key: str, state: object, weights: Tensors) -> NamedMoments:
    """Of one optimizer: {"optim": its state dict, "lr_scheduler": ..}, or the state dict alone."""
    optimizer = table(state).get("optim", state)
    everything = (tuple(dict.fromkeys(name.partition(".")[0] for name in weights)),)
    candidates = [_of(networks, weights) for networks in _OWNERS.get(key, everything)]
    return named_moments(optimizer, [each for each in candidates if each])


def _of(networks: Sequence[str], weights: Tensors) -> Tensors:
    return {
        name: each
        for network in networks
        for name, each in weights.items()
        if name.partition(".")[0] == network
    }


def _layer(name: str, weight: StoredTensor, found: Sequence[NamedMoments]) -> StoredLayer:
    moments = next((each.states[name] for each in found if name in each.states), None)
    reasons = {"gradient": NO_GRADIENTS}
    if moments is None:
        told = [each.reason_of(name) for each in found]
        reasons["moments"] = next((each for each in told if each != NOT_OWNED), (*told, NO_OPTIMIZER)[0])
    return StoredLayer(name=name, weight=weight, moments=moments, reasons=reasons)
