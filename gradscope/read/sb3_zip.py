"""Stable-Baselines3 zips: plain settings, policy weights and optimizer state, without unpickling blobs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradscope.read import sniff
from gradscope.read.file_bytes import Malformed, head_or_nothing, reading, section_of
from gradscope.read.layers import StoredLayer, inert_note, lazy_layers, lazy_state, parameters
from gradscope.read.optimizer_state import NO_OPTIMIZER, NOT_OWNED, Moments, NamedMoments, named_moments
from gradscope.read.pickle_stubs import is_text_keyed
from gradscope.read.sb3_algorithm import NEVER_CLIPS, algorithm_of
from gradscope.read.step_name import known_step
from gradscope.read.torch_archive import TORCH_DETAILS, tensors_of, torch_archive
from gradscope.read.zip_members import wanted, zip_members
from gradscope.records import Clipping, Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gradscope.read.stored_tensor import StoredTensor
    from gradscope.read.torch_archive import TorchArchive
    from gradscope.read.zip_members import Member

    Tensors = Mapping[str, StoredTensor]

MAX_JSON_BYTES: Final = 64 << 20
"""Settings; the largest entries are the last observations of image environments."""
ENTROPY: Final = "log_ent_coef"
NO_GRADIENTS: Final = (
    "an SB3 checkpoint holds no gradients; record them with gradscope.record.GradscopeCallback"
)
_STEP: Final = "num_timesteps"
_OPTIMIZER: Final = "optimizer.pth"
_ONLINE: Final[Mapping[str, tuple[str, ...]]] = {
    "actor.": ("actor.",),
    "critic.": ("critic.",),
    "policy.": ("q_net.", "quantile_net.", ""),
}
"""Prefix of an optimizer's file to prefixes of the parameters it may move."""
_VARIABLES: Final = "pytorch_variables.pth"
_PARTS: Final = (*(prefix + _OPTIMIZER for prefix in _ONLINE), f"ent_coef_{_OPTIMIZER}", _VARIABLES)
"""What is read beside the policy, where it is there."""


@dataclass(frozen=True, kw_only=True)
class Sb3Zip:
    """Reader of Stable-Baselines3 checkpoints."""

    format: str = sniff.SB3

    def accepts(self, path: Path) -> bool:
        """Whether the first bytes are of this format."""
        return sniff.format_of(head_or_nothing(path)) == self.format

    def read(self, path: Path) -> Snapshot:
        """Open a checkpoint; no weight is read before its layer is asked for.

        Raises:
            UnreadableFile: damaged, or no policy in it.
        """
        with reading(path):
            members = zip_members(section_of(path))
            data = _settings(members)
            policy = torch_archive(wanted(members, "policy.pth").section())
            known = known_step(path, {_STEP: data[_STEP]} if _STEP in data else {})
            algorithm, tensors = algorithm_of(data), tensors_of(policy.value)
            parts = {name: torch_archive(members[name].section()) for name in _PARTS if name in members}
            unknown = dict.fromkeys(name for each in (policy, *parts.values()) for name in each.unknown)
            return Snapshot(
                source=path,
                format=self.format,
                step=known.step,
                step_from=known.step_from,
                layers=lazy_layers(_layers(parts, tensors)),
                state=lazy_state(tensors),
                algorithm=algorithm,
                clipping=_clipping(algorithm),
                reasons=known.reasons,
                notes=known.notes + inert_note(tuple(unknown), TORCH_DETAILS),
            )


def _settings(members: Mapping[str, Member]) -> Mapping[str, object]:
    content = wanted(members, "data").content(MAX_JSON_BYTES)
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Malformed("has settings that are no JSON") from error
    if not is_text_keyed(data):
        raise Malformed("has settings that are no JSON object")
    return data


def _clipping(algorithm: str | None) -> Clipping:
    reason = f"{algorithm} does not clip" if algorithm in NEVER_CLIPS else NO_GRADIENTS
    return Clipping(reasons={"clip_coefficient": reason, "norm_before_clip": NO_GRADIENTS})


def _layers(parts: Mapping[str, TorchArchive], policy: Tensors) -> Sequence[StoredLayer]:
    named = {name: tensor for name, tensor in parameters(policy).items() if not _is_target(name)}
    if not named:
        raise Malformed("has a policy without weights")
    once = _without_twins(named)
    optimizers = _policy_moments(parts, parameters(policy), named, once)
    entropy = _entropy(parts)
    if entropy:
        once = {**once, **entropy}
        optimizers += _own_moments(parts, f"ent_coef_{_OPTIMIZER}", [entropy])
    return [_layer(name, tensor, optimizers) for name, tensor in once.items()]


def _layer(name: str, weight: StoredTensor, optimizers: Sequence[NamedMoments]) -> StoredLayer:
    moments: Moments | None = next((each.states[name] for each in optimizers if name in each.states), None)
    reasons = {"gradient": NO_GRADIENTS}
    if moments is None:
        told = [each.reason_of(name) for each in optimizers]
        reasons["moments"] = next((each for each in told if each != NOT_OWNED), (*told, NO_OPTIMIZER)[0])
    return StoredLayer(name=name, weight=weight, moments=moments, reasons=reasons)


def _is_target(name: str) -> bool:
    """Target networks follow the others; no gradient reaches them."""
    return name.partition(".")[0].endswith("_target")


def _without_twins(tensors: Tensors) -> Tensors:
    """Each tensor under its first name only: a shared features extractor is listed three times."""
    first: dict[tuple[object, ...], str] = {}
    for name, tensor in tensors.items():
        first.setdefault(tensor.identity, name)
    return {name: tensor for name, tensor in tensors.items() if first[tensor.identity] == name}


def _policy_moments(
    parts: Mapping[str, TorchArchive], everything: Tensors, named: Tensors, once: Tensors
) -> list[NamedMoments]:
    """State of every optimizer of the policy.

    An optimizer's own parameters are those under its prefix: all, without those another network
    shares, or (SB3 before 2.4) with the target network's too.
    """
    found: list[NamedMoments] = []
    for prefix, owners in _ONLINE.items():
        pools = (once, named, everything)
        candidates = [_under(pool, owner) for owner in owners for pool in pools]
        candidates += [{**_under(once, "q_net."), **_under(everything, "q_net_target.")}]
        found += _own_moments(parts, prefix + _OPTIMIZER, candidates)
    return found


def _own_moments(
    parts: Mapping[str, TorchArchive], file: str, candidates: Sequence[Tensors]
) -> list[NamedMoments]:
    if file not in parts:
        return []
    return [named_moments(parts[file].value, [each for each in candidates if each])]


def _under(tensors: Tensors, prefix: str) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _entropy(parts: Mapping[str, TorchArchive]) -> Tensors:
    """SAC's learned entropy coefficient; a fixed one is called ent_coef_tensor and is no layer."""
    if _VARIABLES not in parts:
        return {}
    variables = tensors_of(parts[_VARIABLES].value)
    return {ENTROPY: variables[ENTROPY]} if ENTROPY in variables else {}
