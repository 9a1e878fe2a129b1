"""The training step a file's name tells, and what to make of it beside the content's own."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_STEP: Final = 10**15
"""No training counts beyond it; a larger number is an id or damage."""
CONTENT_KEYS: Final = ("num_timesteps", "global_step", "step", "timesteps", "iteration", "iter", "epoch")
"""Keys a checkpoint's own dictionary may tell its step under, the most telling first."""

_BEFORE: Final = r"(?:^|[^a-z0-9])"
_NUMBER: Final = r"[-_=.]?(-?[0-9]+)(?![0-9])"
_STEPS: Final = re.compile(r"(?:^|(?<!epoch)[^a-z0-9])(-?[0-9]+)[-_]?steps?(?![a-z=])")
_STEP: Final = re.compile(_BEFORE + r"(?:global|train|env|time)?[-_]?steps?" + _NUMBER)
_CHECKPOINT: Final = re.compile(_BEFORE + r"(?:ckpt|checkpoint|model)" + _NUMBER)
_COUNTER: Final = re.compile(_BEFORE + r"(?:iteration|iter|update|epoch)s?" + _NUMBER)
_TRAILING: Final = re.compile(r"(?:^|[-_=.])([0-9]+)$")
_NO_STEP: Final = re.compile(_BEFORE + r"(?:seed|run|fold|rank|worker|version|trial|env|gpu)s?[-_=.]?[0-9]+$")


@dataclass(frozen=True, kw_only=True)
class NamedStep:
    """A step found in a name."""

    step: int
    is_explicit: bool
    """The name says step, checkpoint or model: it can contradict the content."""


@dataclass(frozen=True, kw_only=True)
class KnownStep:
    """A file's step, how it is known, and what is odd about it."""

    step: int | None
    step_from: str | None
    reasons: Mapping[str, str]
    notes: tuple[str, ...]


def step_of_name(name: str) -> int | None:
    """Step told by a file name like ``a_2000_steps.zip``, ``step=20.ckpt``, ``ckpt-2000``, ``iter_5``."""
    named = named_step(name)
    return named.step if named else None


def named_step(name: str) -> NamedStep | None:
    """Step told by a file name and how firmly; None for none, for a negative one, or beyond MAX_STEP."""
    stem = re.sub(r"\.[a-z][a-z0-9]*$", "", name.lower())
    for pattern, is_explicit in ((_STEPS, True), (_STEP, True), (_CHECKPOINT, True), (_COUNTER, False)):
        if found := pattern.search(stem):
            return _sane(found[1], is_explicit=is_explicit)
    if _NO_STEP.search(stem):
        return None
    found = _TRAILING.search(stem)
    return _sane(found[1], is_explicit=False) if found else None


def whole_number(value: object) -> int | None:
    """A step given as a number, if it can be one: whole, from 0 to MAX_STEP."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MAX_STEP else None


def known_step(path: Path, content: Mapping[str, object]) -> KnownStep:
    """The step of a file: its content's word first, then its name's.

    ``content`` holds what the file says, by key, the most telling first.
    """
    named = named_step(path.name)
    notes: list[str] = []
    for key, value in content.items():
        step = whole_number(value)
        if step is None:
            notes.append(f"{key} is no step: it holds {_short(value)}")
            continue
        if named and named.is_explicit and named.step != step:
            notes.append(f"the name says step {named.step}, the content ({key}) {step}: the content counts")
        return KnownStep(step=step, step_from=key, reasons={}, notes=tuple(notes))
    if named:
        return KnownStep(step=named.step, step_from="name", reasons={}, notes=tuple(notes))
    reason = "neither the content nor the name tells a step"
    return KnownStep(step=None, step_from=None, reasons={"step": reason}, notes=tuple(notes))


def _sane(digits: str, *, is_explicit: bool) -> NamedStep | None:
    too_long = len(digits.lstrip("-0")) > len(str(MAX_STEP))
    step = None if too_long else whole_number(int(digits))
    return None if step is None else NamedStep(step=step, is_explicit=is_explicit)


def _short(value: object) -> str:
    """Only scalars are spelled out: the text of a hostile container can be endless."""
    if isinstance(value, int) and abs(value) > MAX_STEP:
        return "a whole number beyond 10^15"
    if isinstance(value, (int, float, bool)) or value is None:
        return repr(value)
    return "text" if isinstance(value, str) else "no number"
