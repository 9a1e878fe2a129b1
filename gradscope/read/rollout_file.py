"""What gradscope's recorder writes of an on-policy rollout: the batchless whole that PPO trains on."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from gradscope.read import checked_json, sniff
from gradscope.read.file_bytes import Malformed, head_or_nothing, reading, section_of
from gradscope.read.pickle_stubs import is_text_keyed
from gradscope.read.safetensors_file import safetensors_content
from gradscope.read.step_name import known_step
from gradscope.read.stored_tensor import OnDemand, StoredTensor
from gradscope.records import ROLLOUT_SCHEMA, Rollout

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

OBSERVATIONS: Final = "observations"
LSTM_STATES: Final = "lstm_states."
LSTM_NAMES: Final = ("hidden_states_pi", "cell_states_pi", "hidden_states_vf", "cell_states_vf")
NUMBERS: Final = ("values", "log_probs", "advantages", "returns", "episode_starts")
"""float32 [steps, environments]."""
MAX_NUMBER: Final = 1e300
MAX_DEPTH: Final = 16
_LSTM_DIMENSIONS: Final = 4
_ACTION_DIMENSIONS: Final = 3


@dataclass(frozen=True, kw_only=True)
class RolloutFile:
    """Reader of the recorder's rollouts."""

    format: str = sniff.ROLLOUT

    def accepts(self, path: Path) -> bool:
        """Whether the first bytes are of this format."""
        return sniff.format_of(head_or_nothing(path)) == self.format

    def read(self, path: Path) -> Rollout:
        """Open a rollout; observations and LSTM states are read each time they are asked for.

        Raises:
            UnreadableFile: damaged, incomplete, or of an unknown version.
        """
        with reading(path):
            tensors = (content := safetensors_content(section_of(path))).tensors
            document = _document(content.metadata)
            algorithm = checked_json.text(document.get("algorithm"))
            if not algorithm:
                raise Malformed("is a rollout that does not say of which algorithm")
            settings = _settings(document.get("settings"))
            known = known_step(path, {"step": document["step"]} if "step" in document else {})
            steps, environments = _checked_actions(tensors)
            numbers = {name: _numbers(tensors, name, (steps, environments)) for name in NUMBERS}
            return Rollout(
                source=path,
                step=known.step,
                algorithm=algorithm,
                observations=_observations(tensors, (steps, environments)),
                actions=tensors["actions"].array(),
                lstm_states=_lstm_states(tensors, (steps, environments)),
                settings=settings,
                notes=known.notes,
                **numbers,
            )


def _document(metadata: Mapping[str, str]) -> dict[str, object]:
    try:
        text = metadata.get("gradscope", "")
        document = checked_json.table(json.loads(text, parse_constant=_refuse_constant))
    except (ValueError, RecursionError) as error:
        raise Malformed("is a rollout without its description") from error
    schema = document.get("schema")
    if schema != ROLLOUT_SCHEMA:
        shown = repr(schema[:80]) if isinstance(schema, str) else "none"
        raise Malformed(f"is a rollout of schema {shown}, not {ROLLOUT_SCHEMA!r}", "Update gradscope.")
    return document


def _refuse_constant(word: str) -> NoReturn:
    raise Malformed(f"has a setting that is no number: {word}")


def _settings(value: object) -> Mapping[str, object]:
    settings = checked_json.table(value)
    if not settings:
        raise Malformed("is a rollout without its settings")
    _check_plain(settings, MAX_DEPTH)
    return settings


def _check_plain(value: object, depth: int) -> None:
    """Texts, flags, finite numbers, null, and lists and tables of them."""
    if depth == 0:
        raise Malformed("has settings nested too deep")
    if isinstance(value, int | float) and not (abs(value) <= MAX_NUMBER and math.isfinite(value)):
        raise Malformed("has a setting that is beyond any number")
    if isinstance(value, list):
        for each in value:
            _check_plain(each, depth - 1)
    elif is_text_keyed(value):
        _check_plain(list(value.values()), depth - 1)


def _checked_actions(tensors: Mapping[str, StoredTensor]) -> tuple[int, int]:
    """Steps and environments of the rollout, by its actions."""
    shape = _there(tensors, "actions").shape
    if len(shape) != _ACTION_DIMENSIONS or 0 in shape:
        raise Malformed(f"has actions of shape {shape}, not [steps, environments, actions]")
    return shape[0], shape[1]


def _numbers(tensors: Mapping[str, StoredTensor], name: str, rows: tuple[int, int]) -> NDArray[Any]:
    tensor = _there(tensors, name)
    if tensor.shape != rows or tensor.dtype != "float32":
        raise Malformed(f"has {name} of {tensor.dtype} {tensor.shape}, not float32 {rows}")
    return tensor.array()


def _observations(tensors: Mapping[str, StoredTensor], rows: tuple[int, int]) -> Mapping[str, NDArray[Any]]:
    """By key of the space; a plain space has the key ""."""
    prefix = f"{OBSERVATIONS}."
    found = {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}
    if OBSERVATIONS in tensors:
        found = {"": tensors[OBSERVATIONS], **found}
    if not found:
        raise Malformed("is a rollout without observations")
    for key, tensor in found.items():
        if tensor.shape[:2] != rows or math.prod(tensor.shape) == 0:
            raise Malformed(f"has observations {key[:80]!r} of shape {tensor.shape} beside actions of {rows}")
    return OnDemand({key: partial(StoredTensor.array, each) for key, each in found.items()})


def _lstm_states(tensors: Mapping[str, StoredTensor], rows: tuple[int, int]) -> Mapping[str, NDArray[Any]]:
    """All four, or none."""
    found = {name: tensors[LSTM_STATES + name] for name in LSTM_NAMES if LSTM_STATES + name in tensors}
    if len(found) not in {0, len(LSTM_NAMES)}:
        raise Malformed(f"has only the LSTM states {', '.join(found)}")
    for name, tensor in found.items():
        shape = tensor.shape
        fits = len(shape) == _LSTM_DIMENSIONS and (shape[0], shape[2]) == rows and 0 not in shape
        if not fits or tensor.dtype != "float32":
            raise Malformed(f"has {name} of {tensor.dtype} {shape} beside actions of {rows}")
    return OnDemand({name: partial(StoredTensor.array, each) for name, each in found.items()})


def _there(tensors: Mapping[str, StoredTensor], name: str) -> StoredTensor:
    if name not in tensors:
        raise Malformed(f"is a rollout without {name}")
    return tensors[name]
