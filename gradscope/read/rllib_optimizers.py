"""Which of RLlib's optimizers moves which parameters of a module.

Names are ``<module>_<optimizer>``; one moves all of a module, SAC's move parts of it (rllib, algorithms/
sac/torch/sac_torch_learner.py: encoder first, then the head). Targets and constants are moved by none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.read.checked_json import table
from gradscope.read.layers import parameters
from gradscope.read.optimizer_state import NO_OPTIMIZER, NOT_OWNED, NamedMoments, named_moments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.read.stored_tensor import StoredTensor

    Tensors = Mapping[str, StoredTensor]

_PARTS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "qf": (("qf_encoder.", "qf."),),
    "qf_twin": (("qf_twin_encoder.", "qf_twin."),),
    "policy": (("pi_encoder.", "pi."),),
}
"""By the optimizer's name within its module; any other may move the whole module."""
_CONSTANTS: Final = ("log_std_clip_param_const",)
_TARGETS: Final = ("_target_", "target_", "_old_", "old_")


def trained(module: Tensors) -> Tensors:
    """A module's parameters that some optimizer may move."""
    return {
        name: each
        for name, each in parameters(module).items()
        if not name.startswith(_TARGETS) and name.rpartition(".")[2] not in _CONSTANTS
    }


def module_moments(module_id: str, weights: Tensors, optimizers: Mapping[str, object]) -> list[NamedMoments]:
    """State of each optimizer of one module; ``optimizers`` as a learner's state holds them."""
    found: list[NamedMoments] = []
    for key, entry in optimizers.items():
        owner = table(entry).get("module_id")
        if key.startswith(f"{module_id}_") and owner in {module_id, None}:
            state = table(entry).get("state")
            optimizer = entry if "param_groups" in table(entry) else state
            name = key.removeprefix(f"{module_id}_")
            if name != "alpha":  # SAC's entropy coefficient is no parameter of the module
                found.append(named_moments(optimizer, _candidates(name, weights)))
    return found


def why_none(name: str, found: Sequence[NamedMoments]) -> str:
    """Why no optimizer has state of a parameter."""
    told = [each.reason_of(name) for each in found]
    return next((each for each in told if each != NOT_OWNED), (*told, NO_OPTIMIZER)[0])


def _candidates(name: str, weights: Tensors) -> list[Tensors]:
    return [
        {key: each for prefix in prefixes for key, each in weights.items() if key.startswith(prefix)}
        for prefixes in _PARTS.get(name, (("",),))
    ]
