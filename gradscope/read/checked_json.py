"""Values out of JSON that somebody else wrote: the right type, or None."""

from __future__ import annotations

import math

from gradscope.read.pickle_stubs import is_text_keyed
from gradscope.read.step_name import MAX_STEP
from gradscope.records import Observed


def number(value: object) -> float | None:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e300:  # noqa: PLR2004
        return None
    return float(value) if math.isfinite(value) else None


def count(value: object) -> int | None:
    """A whole number from 0 to MAX_STEP."""
    return value if type(value) is int and 0 <= value <= MAX_STEP else None


def text(value: object) -> str | None:
    """A text."""
    return value if isinstance(value, str) else None


def table(value: object) -> dict[str, object]:
    """An object; empty where the value is none."""
    return value if is_text_keyed(value) else {}


def texts(value: object) -> tuple[str, ...] | None:
    """A list of texts, or one text alone."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    return None


def reasons(value: object) -> dict[str, str]:
    """Texts by key."""
    return {key: each for key, each in table(value).items() if isinstance(each, str)}


def observed(document: dict[str, object]) -> Observed:
    """How the recorder was told observations are laid out."""
    selectors = {name: texts(each) for name, each in table(document.get("slices")).items()}
    return Observed(
        slices={name: each for name, each in selectors.items() if each},
        sequence_length=count(document.get("sequence_length")) or None,
        feature_names=texts(document.get("feature_names")) or None,
    )
