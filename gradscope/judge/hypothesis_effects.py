"""Interventions on a slice: what they did to the zeros of the layers that are bad."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gradscope.judge.hypothesis_facts import (
    MARGIN_SOURCE,
    NO_BAD_LAYER,
    bad_layers,
    not_testable,
    percent,
    rejected,
    supported,
    why_no_zeros,
    words_of,
)
from gradscope.records import Evidence
from gradscope.settings import BASELINE_MARGIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.judge.hypothesis_facts import Facts
    from gradscope.records import Effect, Finding

CAUSE: Final = "slice-is-cause"
NOT_DONE: Final = "no intervention was made"
UNCLEAR: Final = "the batches differ too much to tell"
WORDS: Final = {
    "flat": "{slice} set to rest",
    "permuted": "{slice} permuted over rows",
    "rescaled": "{slice} rescaled to the other inputs' size",
    "active rows": "only rows with {slice} active",
    "inactive rows": "only rows with {slice} at rest",
}
GET_EFFECTS: Final = (
    "Save a replay buffer with each checkpoint, or name one with --replay, so that the gradient can be "
    "computed again with the slice changed; networks of your own need --trust --code DIR. Where batches "
    "differ too much, --batches 32."
)
DO_CAUSE: Final = (
    "Change how this slice enters the network, not the optimizer: scale-mismatch and domain-shift say which "
    "of its traits does it."
)


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What one intervention took away, over the bad layers."""

    verdict: bool | None
    """True: zeros go; False: they stay; None: not known."""
    amounts: Mapping[str, float] = field(default_factory=dict)
    """Zeros it takes away, by layer."""
    words: str = ""
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
        return not_testable(CAUSE, problem, GET_EFFECTS)
    if not bad_layers(facts):
        return rejected(CAUSE, NO_BAD_LAYER)
    found = removed(facts, "flat")
    also = [removed(facts, each) for each in ("permuted", "rescaled", "inactive rows")]
    evidence = [*found.evidence, *(each for one in also for each in one.evidence)]
    if found.verdict is None:
        return not_testable(CAUSE, found.why, GET_EFFECTS, evidence)
    if found.verdict:
        return supported(CAUSE, facts, found.amounts, found.words, evidence=evidence, what_to_do=DO_CAUSE)
    return rejected(CAUSE, found.words, evidence)


def removed(facts: Facts, intervention: str) -> Removed:
    """What an intervention did to the bad layers.

    Zeros go where a layer's effect is one (its interval leaves 0 out) and takes away at least the margin
    that counts against a layer; zeros stay where every tested layer keeps them within that margin.
    """
    bad = {layer.name: layer for layer in bad_layers(facts)}
    tested = [
        each
        for each in facts.effects
        if each.intervention == intervention and each.layer in bad and each.difference is not None
    ]
    evidence = [_evidence(facts, each) for each in tested]
    if not tested:
        return Removed(verdict=None, why=facts.reasons.get("effects", NOT_DONE))
    gone = [each for each in tested if each.verdict == "effect" and _difference(each) <= -BASELINE_MARGIN]
    if gone:
        amounts = {each.layer: -_difference(each) * facts.seen(bad[each.layer]) for each in gone}
        strongest = min(gone, key=_difference)
        return Removed(
            verdict=True, amounts=amounts, words=_words(facts, strongest, len(gone)), evidence=evidence
        )
    if any(each.verdict == "unclear" and not _stays(each) for each in tested):
        return Removed(verdict=None, why=f"with {_name(facts, intervention)}, {UNCLEAR}", evidence=evidence)
    largest = max(tested, key=lambda each: (facts.seen(bad[each.layer]), each.layer))
    return Removed(verdict=False, words=_words(facts, largest, 0), evidence=evidence)


def _difference(effect: Effect) -> float:
    return effect.difference or 0.0


def _stays(effect: Effect) -> bool:
    """Whether the whole interval keeps away from a fall that would count."""
    return effect.interval is not None and effect.interval[0] > -BASELINE_MARGIN


def _name(facts: Facts, intervention: str) -> str:
    return WORDS[intervention].format(slice=facts.slice)


def _words(facts: Facts, effect: Effect, num_gone: int) -> str:
    """What became of one layer, and of how many more."""
    before, after = percent(effect.zero_fraction), percent(effect.zero_fraction_after)
    name = _name(facts, effect.intervention)
    if not num_gone:
        return f"with {name} the zeros stay: {effect.layer} {before}, then {after}"
    more = f" (and fall in {num_gone - 1} more layers)" if num_gone > 1 else ""
    return f"with {name} the zeros of {words_of([effect.layer])} go from {before} to {after}{more}"


def _evidence(facts: Facts, effect: Effect) -> Evidence:
    return Evidence(
        measure=f"{effect.layer}: change of zeros with {_name(facts, effect.intervention)}",
        value=effect.difference,
        limit=-BASELINE_MARGIN,
        source=MARGIN_SOURCE,
    )
