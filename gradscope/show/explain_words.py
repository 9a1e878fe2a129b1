"""The case's three hypotheses by name, and layer names short enough for a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradscope.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradscope.records import Explanation, Finding

LONG_NAME: Final = 30
"""Letters from which a layer's name is shortened in a sentence."""
LEAST_PARTS: Final = 2


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """One of the three hypotheses people come with."""

    name: str
    verdict: Verdict
    text: str


def found(explanation: Explanation, code: str) -> Finding | None:
    """The finding of a code."""
    return next((each for each in explanation.findings if each.code == code), None)


def suspects(explanation: Explanation, slice_name: str = "position") -> list[Suspect]:
    """Position saturation, domain shift, explosion-clipping-vanishing; each answered, whatever it is."""
    answers = [
        ("domain shift", found(explanation, "domain-shift")),
        ("explosion, clipping, vanishing", found(explanation, "explosion-clipping")),
    ]
    plain = [
        Suspect(name=name, verdict=each.verdict, text=each.reason)
        for name, each in answers
        if each is not None
    ]
    return [*_saturation(explanation, slice_name), *plain]


def shortened(text: str, names: Iterable[str]) -> str:
    """The text with long layer names cut to their last parts, as far as these tell them apart."""
    listed = list(names)
    for name in sorted(listed, key=len, reverse=True):
        if len(name) > LONG_NAME:
            text = text.replace(name, _ending(name, listed))
    return text


def _saturation(explanation: Explanation, slice_name: str) -> list[Suspect]:
    """Units must saturate, and the slice must be what does it."""
    shut, cause = found(explanation, "saturation"), found(explanation, "slice-is-cause")
    if shut is None or cause is None:
        return []
    verdict, text = shut.verdict, shut.reason
    if shut.verdict is Verdict.SUPPORTED and cause.verdict is not Verdict.SUPPORTED:
        verdict = cause.verdict
        who = f"units saturate, but not by {slice_name}" if verdict is Verdict.REJECTED else "units saturate"
        text = f"{who}: {cause.reason}"
    elif shut.verdict is Verdict.REJECTED and cause.verdict is Verdict.SUPPORTED:
        text = f"{slice_name} does make the zeros, but not by saturation: {shut.reason}"
    return [Suspect(name=f"{slice_name} saturation", verdict=verdict, text=text)]


def _ending(name: str, names: list[str]) -> str:
    parts = name.split(".")
    for number in range(LEAST_PARTS, len(parts)):
        ending = ".".join(parts[-number:])
        if sum(each == ending or each.endswith(f".{ending}") for each in names) == 1:
            return ending
    return name
