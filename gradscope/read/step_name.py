"""The training step that a file's and its folder's names tell, and what it means beside the content's."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradscope.read.name_styles import Told, told_by

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_STEP: Final = 10**15
"""No training counts beyond it; a larger number is an id or damage."""
CONTENT_KEYS: Final = (
    *("num_timesteps", "global_step", "global_steps", "env_steps", "step", "timesteps"),
    *("train_step", "num_updates", "iteration", "iter", "iter_num", "last_iter", "epoch"),
)
"""Keys a checkpoint's own dictionary may tell its step under, the most telling first."""
RANK: Final = re.compile(r"(mp_)?rank_?[0-9]+(_[0-9]+)*")
"""In a folder of one step, where each process writes into its own: iter_0001000/mp_rank_00 (Megatron)."""
FOLDER: Final = "folder"
"""``step_from`` of a file whose folder's name tells the step."""
_SHOWN_DIGITS: Final = 20


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
    told = told_by(name)
    return None if told is None else _sane(told)


def step_of_folder(name: str) -> int | None:
    """Step told by the name of a folder that holds one step: only where it says that it counts something."""
    told = told_by(name, is_folder=True)
    named = _sane(told) if told is not None and told.counts_something else None
    return named.step if named else None


def step_of_place(folder: Path) -> int | None:
    """Step told by a folder's name, or by that of the folder that holds one for each process."""
    is_of_process = RANK.fullmatch(folder.name) is not None
    return step_of_folder(folder.parent.name if is_of_process else folder.name)


def whole_number(value: object) -> int | None:
    """A step given as a number, if it can be one: whole, from 0 to MAX_STEP."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MAX_STEP else None


def known_step(path: Path, content: Mapping[str, object]) -> KnownStep:
    """The step of a file: its content's word first, then its name's, then its folder's.

    ``content`` holds what the file says, by key, the most telling first.
    """
    told = told_by(path.name)
    named = None if told is None else _sane(told)
    notes: list[str] = []
    for key, value in content.items():
        step = whole_number(value)
        if step is None:
            notes.append(f"{key} is no step: it holds {_short(value)}")
            continue
        if named and named.is_explicit and named.step != step:
            notes.append(f"the name says step {named.step}, the content ({key}) {step}: the content counts")
        return KnownStep(step=step, step_from=key, reasons={}, notes=tuple(notes))
    if told is not None and named is None:
        notes.append(f"the name's number is no step: {_short_digits(told.digits)}")
    of_folder = None if named else step_of_place(path.parent)
    if named or of_folder is not None:
        step, step_from = (named.step, "name") if named else (of_folder, FOLDER)
        return KnownStep(step=step, step_from=step_from, reasons={}, notes=tuple(notes))
    reason = "neither the content nor the name tells a step"
    return KnownStep(step=None, step_from=None, reasons={"step": reason}, notes=tuple(notes))


def _sane(told: Told) -> NamedStep | None:
    digits = told.digits
    too_long = len(digits.lstrip("-0")) > len(str(MAX_STEP))
    step = None if too_long else whole_number(int(digits))
    return None if step is None else NamedStep(step=step, is_explicit=told.is_explicit)


def _short_digits(digits: str) -> str:
    return digits if len(digits) <= _SHOWN_DIGITS else f"it has {len(digits.lstrip('-'))} digits"


def _short(value: object) -> str:
    """Only scalars are spelled out: the text of a hostile container can be endless."""
    if isinstance(value, int) and abs(value) > MAX_STEP:
        return "a whole number beyond 10^15"
    if isinstance(value, (int, float, bool)) or value is None:
        return repr(value)
    return "text" if isinstance(value, str) else "no number"
