"""Wording and rounding, decided once for every renderer."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Final

from gradscope.records.percent import UNKNOWN

if TYPE_CHECKING:
    from gradscope.records import ZeroAnatomy

THOUSAND: Final = 1000
PLAIN_NUMBERS: Final = (1e-4, 1e6)
"""Sizes between are printed without an exponent."""
KINDS: Final = {
    "expected": "expected",
    "whole_layer": "whole layer",
    "dead_input": "dead inputs",
    "dead_unit": "dead units",
    "scattered": "scattered",
}
_HIDDEN: Final = {"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"}
"""Unicode categories that could steer a terminal or reorder text."""


def safe(name: str) -> str:
    """A name from a file; control, format and surrogate characters are written out as escapes."""
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _HIDDEN else char
        for char in name
    )


def sentence(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def points(difference: float | None) -> str:
    """A difference of fractions with its sign: 0.382 -> "+38.2"; below 0.05 points "0.0"."""
    if difference is None:
        return UNKNOWN
    shown = f"{100 * difference:+.1f}"
    return "0.0" if shown in {"+0.0", "-0.0"} else shown


def number(value: float | None) -> str:
    """Three significant digits: 1.90, 0.0213, 4.1e-09, 12,300."""
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    if not PLAIN_NUMBERS[0] <= abs(value) < PLAIN_NUMBERS[1]:
        return f"{value:.1e}"
    rounded = float(f"{value:.3g}")
    return f"{rounded:#.3g}".rstrip(".") if abs(rounded) < THOUSAND else f"{rounded:,.0f}"


def count(value: int | None) -> str:
    """12808 -> "12,808"."""
    return UNKNOWN if value is None else f"{value:,}"


def plural(number: int, noun: str) -> str:
    """1, "layer" -> "1 layer"; 3 -> "3 layers"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def bar(fraction: float | None, width: int, *, ascii_only: bool) -> str:
    """A bar of at most ``width`` cells; any zero at all shows at least a sliver."""
    if fraction is None or width <= 0:
        return ""
    fraction = min(fraction, 1.0)
    if ascii_only:
        return "#" * max(round(fraction * width), 1 if fraction else 0)
    eighths = max(round(fraction * width * 8), 1 if fraction else 0)
    full, part = divmod(eighths, 8)
    return "█" * full + (" ▏▎▍▌▋▊▉"[part] if part else "")


def short_layer(name: str, width: int, *, ascii_only: bool = False) -> str:
    """A layer name of at most ``width`` cells; its end says most, so the beginning goes."""
    name = safe(name)
    if ascii_only:
        name = name.encode("ascii", "backslashreplace").decode()
    dots = "~" if ascii_only else "…"
    if len(name) <= width:
        return name
    return dots + name[len(name) - max(width - len(dots), 1) :]


def kinds(anatomy: ZeroAnatomy | None, num_batches: int | None = None) -> str:
    """Zeros of one batch (the mean of several) by kind, most first: "dead units 4,380, dead inputs 896"."""
    if anatomy is None:
        return UNKNOWN
    counts = [(getattr(anatomy, key) / (num_batches or 1), words) for key, words in KINDS.items()]
    present = sorted((each for each in counts if each[0]), key=lambda each: -each[0])
    return ", ".join(f"{words} {_mean_count(number)}" for number, words in present) or "none"


def _mean_count(number: float) -> str:
    return f"{number:,.0f}" if number >= 1 else "<1"
