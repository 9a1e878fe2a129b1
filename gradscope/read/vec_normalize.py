"""Stable-Baselines3's VecNormalize: running mean and variance of observations and returns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradscope.read import sniff
from gradscope.read.file_bytes import Malformed, head_or_nothing, reading, section_of
from gradscope.read.layers import inert_note
from gradscope.read.numpy_pickle import NUMPY_TABLE, as_array
from gradscope.read.pickle_stubs import attributes, is_text_keyed
from gradscope.read.safe_pickle import unpickled
from gradscope.read.sb3_buffer import SB3_DETAILS
from gradscope.read.sb3_space import MAX_ENTRIES
from gradscope.read.step_name import known_step
from gradscope.records import Normalizer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class VecNormalizeFile:
    """Reader of VecNormalize pickles."""

    format: str = sniff.NORMALIZER

    def accepts(self, path: Path) -> bool:
        """Whether the first bytes are of this format."""
        return sniff.format_of(head_or_nothing(path)) == self.format

    def read(self, path: Path) -> Normalizer:
        """Open the statistics.

        Raises:
            UnreadableFile: damaged, or a pickle of something else.
        """
        with reading(path):
            found = unpickled(section_of(path).content(), NUMPY_TABLE)
            values = attributes(found.value)
            if "norm_obs" not in values and "obs_rms" not in values:
                raise Malformed("is a pickle without VecNormalize's statistics", "Leave it out.")
            known = known_step(path, {})
            _check(values)
            returns = attributes(values.get("ret_rms"))
            return Normalizer(
                source=path,
                step=known.step,
                step_from=known.step_from,
                mean=_statistics(values.get("obs_rms"), "mean"),
                var=_statistics(values.get("obs_rms"), "var"),
                epsilon=_number(values.get("epsilon"), 1e-8),
                clip=_number(values.get("clip_obs"), 10.0),
                norm_observations=values.get("norm_obs") is not False,
                return_var=_variance(returns.get("var")),
                clip_reward=_number(values.get("clip_reward"), 10.0),
                norm_reward=values.get("norm_reward") is not False,
                notes=known.notes + inert_note(found.unknown, SB3_DETAILS),
            )


def _check(values: Mapping[str, object]) -> None:
    """Statistics that no run can have would give numbers that look like any other."""
    for name, least in (("epsilon", 0.0), ("clip_obs", 0.0), ("clip_reward", 0.0)):
        if _number(values.get(name), 1.0) < least:
            raise Malformed(f"has a negative {name}")
    variances = {**_statistics(values.get("obs_rms"), "var"), "returns": as_array(_var(values))}
    for each in variances.values():
        if each is not None and not (np.isfinite(each).all() and (each >= 0).all()):
            raise Malformed("has variances that are negative or not finite")
    if not all(np.isfinite(each).all() for each in _statistics(values.get("obs_rms"), "mean").values()):
        raise Malformed("has means that are not finite")


def _var(values: Mapping[str, object]) -> object:
    return attributes(values.get("ret_rms")).get("var")


def _statistics(value: object, name: str) -> Mapping[str, NDArray[Any]]:
    """Means or variances by key of the space; a plain space has the key ""."""
    found = value if is_text_keyed(value) else {"": value}
    if len(found) > MAX_ENTRIES:
        raise Malformed(f"has statistics of {len(found)} observations; at most {MAX_ENTRIES} are read")
    arrays = {key: as_array(attributes(each).get(name)) for key, each in found.items()}
    return {key: array for key, array in arrays.items() if array is not None}


def _number(value: object, default: float) -> float:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise Malformed("holds a setting that is no number")
    return float(value)


def _variance(value: object) -> float | None:
    """A zero-dimensional array in some versions, a number in others."""
    array = as_array(value)
    number = array.item() if array is not None and array.size == 1 else value
    return float(number) if isinstance(number, (int, float)) and math.isfinite(number) else None
