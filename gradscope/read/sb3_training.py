"""What a Stable-Baselines3 run needs to take its next gradient step, read without unpickling blobs.

Classes are only named, schedules that are functions are not run. Its replay buffer is sb3_buffer.py's.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gradscope.read.checked_json import number
from gradscope.read.file_bytes import Malformed, reading, section_of
from gradscope.read.numpy_pickle import NUMPY_TABLE, as_array
from gradscope.read.optimizer_numbers import distinct
from gradscope.read.pickle_stubs import attributes, class_name, is_text_keyed
from gradscope.read.safe_pickle import unpickled
from gradscope.read.sb3_algorithm import MAX_BLOB, algorithm_of
from gradscope.read.sb3_space import sb3_space
from gradscope.read.sb3_zip import MAX_JSON_BYTES
from gradscope.read.stored_tensor import OnDemand
from gradscope.read.torch_archive import plain_number, tensors_of, torch_archive
from gradscope.read.zip_members import wanted, zip_members

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from gradscope.read.sb3_space import Sb3Space
    from gradscope.read.zip_members import Member

    Array = NDArray[Any]

_OPTIMIZER: Final = "optimizer.pth"
MAX_SETTINGS: Final = 100
"""Of a group of an optimizer; torch's have about 15."""
_SCHEDULES: Final = "stable_baselines3.common.utils"


@dataclass(frozen=True, kw_only=True, eq=False)
class Sb3Optimizer:
    """One optimizer: the settings of its groups, and its state by number of the parameter."""

    groups: tuple[Mapping[str, object], ...]
    """As torch names them: lr, betas, eps, weight_decay, amsgrad, params, ..."""
    state: Mapping[int, Mapping[str, Array]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sb3Training:
    """An SB3 zip as its next train() would find it."""

    source: Path
    algorithm: str | None
    """SAC, TD3, ...: by policy class, else by settings; None where neither tells."""
    policy_class: str | None
    """Dotted name; None for a class that the file carries by value."""
    observation_space: str | None
    """Dotted name of the space's class."""
    space: Sb3Space | None
    """What is known of it; None where it is no space that SB3 trains on."""
    action_space: Sb3Space | None
    settings: Mapping[str, object]
    """Plain entries of the zip's JSON: numbers, texts, flags, null."""
    policy_settings: Mapping[str, object] | None
    """policy_kwargs, classes by dotted name; None where they cannot be read."""
    learning_rate: float | None
    """Of the next train(); None where a function of the user's decides it."""
    weights: Mapping[str, Array]
    """Everything in policy.pth, in file order, each read when it is asked for."""
    variables: Mapping[str, Array]
    """pytorch_variables.pth: log_ent_coef or ent_coef_tensor."""
    optimizers: Mapping[str, Sb3Optimizer]
    """By network: actor, critic, policy, ent_coef."""
    last_original_observations: Mapping[str, Array] | None = None
    """The newest ones before VecNormalize, key "" for a plain space: [environments, *shape]."""
    last_observations: Mapping[str, Array] | None = None
    """The same as the network saw them, normalised with the statistics of that time."""


def sb3_training(path: Path) -> Sb3Training:
    """Open an SB3 zip.

    Raises:
        UnreadableFile: damaged, or no policy in it.
    """
    with reading(path):
        members = zip_members(section_of(path))
        data = _json(members)
        weights = tensors_of(_archive(members, "policy.pth"))
        space = _blob(data.get("observation_space"), MAX_JSON_BYTES)
        return Sb3Training(
            source=path,
            algorithm=algorithm_of(data),
            policy_class=class_name(_blob(data.get("policy_class"))),
            observation_space=class_name(space),
            space=sb3_space(space),
            action_space=sb3_space(_blob(data.get("action_space"), MAX_JSON_BYTES)),
            settings=_settings(data),
            policy_settings=_policy_settings(data.get("policy_kwargs")),
            learning_rate=_learning_rate(data),
            weights=OnDemand({name: each.array for name, each in weights.items()}),
            variables=_arrays(members, "pytorch_variables.pth"),
            optimizers=_optimizers(members),
            last_original_observations=_observations(_blob(data.get("_last_original_obs"), MAX_JSON_BYTES)),
            last_observations=_observations(_blob(data.get("_last_obs"), MAX_JSON_BYTES)),
        )


def _json(members: Mapping[str, Member]) -> Mapping[str, object]:
    try:
        data = json.loads(wanted(members, "data").content(MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise Malformed("has settings that are no JSON") from error
    if not is_text_keyed(data):
        raise Malformed("has settings that are no JSON object")
    return data


def _archive(members: Mapping[str, Member], name: str) -> object:
    return torch_archive(wanted(members, name).section()).value


def _arrays(members: Mapping[str, Member], name: str) -> Mapping[str, Array]:
    tensors = tensors_of(_archive(members, name)) if name in members else {}
    return OnDemand({name: each.array for name, each in tensors.items() if each.is_bounded})


def _observations(value: object) -> Mapping[str, Array] | None:
    arrays = {key: as_array(each) for key, each in (value if is_text_keyed(value) else {"": value}).items()}
    known = {key: each for key, each in arrays.items() if each is not None}
    return known if arrays and len(known) == len(arrays) else None


def _blob(entry: object, limit: int = MAX_BLOB) -> object:
    """What a pickled entry of the JSON holds, stubs for everything unknown; None where it has none.

    ``limit``: characters; spaces and observations of images are long.
    """
    encoded = entry.get(":serialized:") if is_text_keyed(entry) else None
    if not isinstance(encoded, str) or len(encoded) > limit:
        return None
    try:
        return unpickled(base64.b64decode(encoded), NUMPY_TABLE).value
    except (Malformed, binascii.Error, ValueError):
        return None


def _settings(data: Mapping[str, object]) -> Mapping[str, object]:
    """Plain entries; TQC stores its target entropy as a pickled scalar of numpy."""
    plain = {key: each for key, each in data.items() if each is None or isinstance(each, (int, float, str))}
    scalar = number(_blob(data.get("target_entropy")))
    return plain if scalar is None else {**plain, "target_entropy": scalar}


def _policy_settings(entry: object) -> Mapping[str, object] | None:
    pickled = is_text_keyed(entry) and ":serialized:" in entry
    settings = _blob(entry) if pickled else entry
    if not is_text_keyed(settings):
        return None
    return {key: class_name(each) or each for key, each in settings.items()}


def _learning_rate(data: Mapping[str, object]) -> float | None:
    """The schedule's value at the saved progress, for the schedules that are data and not code."""
    plain = number(data.get("learning_rate"))
    if plain is not None:
        return plain
    schedule = _blob(data.get("learning_rate"))
    values = {name: number(each) for name, each in attributes(schedule).items()}
    name = class_name(schedule)
    if name == f"{_SCHEDULES}.ConstantSchedule":
        return values.get("val")
    left = number(data.get("_current_progress_remaining"))
    parts = (values.get("start"), values.get("end"), values.get("end_fraction"), left)
    known = [each for each in parts if each is not None]
    if name != f"{_SCHEDULES}.LinearSchedule" or len(known) < len(parts):
        return None
    start, end, share, left = known
    return end if (1 - left) > share else start + (1 - left) * (end - start) / share


def _optimizers(members: Mapping[str, Member]) -> Mapping[str, Sb3Optimizer]:
    files = {name.removesuffix(_OPTIMIZER): name for name in members if name.endswith(_OPTIMIZER)}
    return {key.rstrip("._"): _optimizer(_archive(members, name)) for key, name in files.items()}


def _optimizer(saved: object) -> Sb3Optimizer:
    entries = saved if is_text_keyed(saved) else {}
    groups, states = entries.get("param_groups"), entries.get("state")
    plain = [each for each in distinct(groups if isinstance(groups, list) else ()) if is_text_keyed(each)]
    state = states if isinstance(states, dict) else {}
    if len(distinct(state.values())) < len(state):
        raise Malformed("has an optimizer with one state for several parameters")
    return Sb3Optimizer(
        groups=tuple(
            {key: plain_number(each) for key, each in list(group.items())[:MAX_SETTINGS]} for group in plain
        ),
        state={
            place: OnDemand(
                {name: each.array for name, each in tensors_of(moments).items() if each.is_bounded}
            )
            for place, moments in state.items()
            if isinstance(place, int)
        },
    )
