"""Interventions on a slice: what they did to the zeros of the layers that are bad."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gradscope.judge.hypothesis_facts import (
    NO_BAD_LAYER,
    how_to_try,
    not_testable,
    percent,
    rejected,
    share,
    supported,
    weighty,
    why_no_zeros,
    words_of,
    zero_layers,
)
from gradscope.judge.interventions import BY_HEART, LEAST_TAKEN, ON_VALUES, takes_zeros
from gradscope.records import Evidence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.judge.hypothesis_facts import Facts
    from gradscope.records import Effect, Finding

CAUSE: Final = "slice-is-cause"
NOT_DONE: Final = "no intervention was made"
UNCLEAR: Final = "the batches differ too much to tell"
CAUSE_SHARE: Final = 0.10
"""Share of a snapshot's zeros that must go: the same tenth as the first limit, or one small layer decides."""
WORDS: Final = {
    "flat": "{slice} set to rest",
    "permuted": "{slice} permuted over rows",
    "rescaled": "{slice} rescaled to the other inputs' size",
    "active rows": "only rows with {slice} active",
    "inactive rows": "only rows with {slice} at rest",
}
DO_CAUSE: Final = (
    "Change how this slice enters the network, not the optimizer: scale-mismatch and domain-shift say which "
    "of its traits does it."
)


BRIEF: Final = {"flat": "set to rest", "permuted": "permuted over rows"}
"""Where the slice has just been named."""


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What one intervention took away, over the layers with zeros."""

    verdict: bool | None
    """True: zeros go; False: they stay; None: not known."""
    amounts: Mapping[str, float] = field(default_factory=dict)
    """Zeros it takes away, by layer."""
    words: str = ""
    brief: str = ""
    """The same without naming slice and layer."""
    why: str = ""
    """Why it is not known."""
    evidence: Sequence[Evidence] = ()

    @property
    def total(self) -> float:
        """Zeros it takes away."""
        return sum(self.amounts.values())


def slice_is_cause(facts: Facts) -> Finding:
    """Zeros of weights outside the slice's own columns go when the slice is set to rest."""
    problem = why_no_zeros(facts)
    if problem is not None:
        return not_testable(CAUSE, problem, how_to_try(problem))
    if not zero_layers(facts):
        return rejected(CAUSE, NO_BAD_LAYER)
    if facts.at_rest:
        return rejected(CAUSE, f"{facts.slice} is at rest on every row of this step: it cannot act")
    tried = [removed(facts, each) for each in ON_VALUES]
    evidence = [each for one in tried for each in one.evidence]
    cause = next((each for each in tried if each.verdict), None)
    if cause is not None:
        return supported(CAUSE, facts, cause.amounts, cause.words, evidence=evidence, what_to_do=DO_CAUSE)
    if tried[0].verdict is None:
        return not_testable(CAUSE, tried[0].why, how_to_try(tried[0].why), evidence)
    return rejected(CAUSE, tried[0].words, evidence)


def removed(facts: Facts, intervention: str) -> Removed:
    """What an intervention did to the layers with zeros.

    Zeros go where most of a layer's are taken away, as ``takes_zeros`` says, and these are a tenth of all;
    they stay where no layer's interval leaves room for that.
    """
    bad = {layer.name: layer for layer in zero_layers(facts)}
    tested = [
        each
        for each in facts.effects
        if each.intervention == intervention and each.layer in bad and each.difference is not None
    ]
    evidence = [_evidence(facts, each) for each in tested if each.layer in weighty(facts)]
    if not tested:
        undone = (each for each in facts.effects if each.intervention == intervention)
        why = next((each.reasons["difference"] for each in undone if "difference" in each.reasons), NOT_DONE)
        return Removed(verdict=None, why=facts.reasons.get("effects", why))
    gone = [each for each in tested if takes_zeros(each)]
    amounts = {each.layer: -_difference(each) * facts.seen(bad[each.layer]) for each in gone}
    if (share(facts, sum(amounts.values())) or 0.0) >= CAUSE_SHARE:
        words, brief = _words(facts, gone[0], len(gone)), _brief(gone[0])
        return Removed(verdict=True, amounts=amounts, words=words, brief=brief, evidence=evidence)
    if shared := next((each for each in tested if each.reasons.get("verdict") == BY_HEART), None):
        words = f"{_words(facts, shared, 1)}, but {BY_HEART}"
        return Removed(verdict=False, words=words, brief=BY_HEART, evidence=evidence)
    if any(each.verdict == "unclear" and not _stays(each) for each in tested):
        return Removed(verdict=None, why=f"with {_name(facts, intervention)}, {UNCLEAR}", evidence=evidence)
    worst = max(tested, key=lambda each: ((each.zero_fraction or 0.0), facts.seen(bad[each.layer])))
    words, brief = _words(facts, worst, 0), _brief(worst)
    return Removed(verdict=False, words=words, brief=brief, evidence=evidence)


def _difference(effect: Effect) -> float:
    return effect.difference or 0.0


def _stays(effect: Effect) -> bool:
    """Whether the whole interval keeps away from most of the zeros."""
    return effect.interval is not None and effect.interval[0] > -LEAST_TAKEN * (effect.zero_fraction or 0.0)


def _name(facts: Facts, intervention: str) -> str:
    return WORDS[intervention].format(slice=facts.slice)


def _words(facts: Facts, effect: Effect, num_gone: int) -> str:
    """What became of one layer, and of how many more."""
    before, after = percent(effect.zero_fraction), percent(effect.zero_fraction_after)
    name = _name(facts, effect.intervention)
    if not num_gone:
        kept = f"stay at {before}" if before == after else f"stay: {before}, then {after}"
        return f"with {name}, zeros of {effect.layer} {kept}"
    more = f", {num_gone - 1} more too" if num_gone > 1 else ""
    return f"with {name}, zeros of {words_of([effect.layer])} go from {before} to {after}{more}"


def _brief(effect: Effect) -> str:
    done = BRIEF.get(effect.intervention, effect.intervention)
    before, after = percent(effect.zero_fraction), percent(effect.zero_fraction_after)
    return f"{done}, {before} of zeros {'stay' if before == after else f'become {after}'}"


def _evidence(facts: Facts, effect: Effect) -> Evidence:
    return Evidence(
        measure=f"{effect.layer}: change of zeros with {_name(facts, effect.intervention)}",
        value=effect.difference,
        limit=-LEAST_TAKEN * (effect.zero_fraction or 0.0),
        source="most of them",
    )
