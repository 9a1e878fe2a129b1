"""Zeros that are no fault, and weights that never learned at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.judge.hypothesis_facts import (
    LIMIT_SOURCE,
    NO_BAD_LAYER,
    bad_layers,
    not_testable,
    percent,
    rejected,
    supported,
    weighty,
    why_no_zeros,
    words_of,
    zero_layers,
)
from gradscope.judge.hypothesis_network import untaken_zeros
from gradscope.records import Evidence
from gradscope.settings import SMALL_LAYER_SHARE

if TYPE_CHECKING:
    from gradscope.judge.hypothesis_facts import Facts
    from gradscope.records import Finding, LayerGradient

EXPECTED: Final = "expected-zeros"
NEVER: Final = "never-trained"
DO_EXPLORE: Final = "Nothing in the network: actions that are never taken teach nothing; explore more."
DO_NOTHING: Final = (
    "Nothing: these weights cannot receive gradient (of a key bias, softmax ignores what all keys share)."
)
MOST: Final = 0.5
"""Share of a layer's zeros that were never trained, from which that is what they are."""
DO_NEVER: Final = (
    "Check that these weights are meant to learn: requires_grad, a detached branch, an input that was flat "
    "from the start. Where they are frozen on purpose, nothing."
)
GET_STATE: Final = (
    "Save the optimizer's state with the checkpoint: Adam remembers which weights ever had a gradient."
)


def expected_zeros(facts: Facts) -> Finding:
    """Zeros that cannot be anything else: key biases, rows not looked up, actions never taken."""
    problem = why_no_zeros(facts)
    if facts.snapshot.num_zero is None:
        return not_testable(EXPECTED, problem or "no gradient")
    found = [(layer, _expected(facts, layer)) for layer in facts.snapshot.layers]
    amounts = {layer.name: zeros for layer, zeros in found if zeros}
    if not amounts:
        return rejected(EXPECTED, "no layer has zeros that its kind explains", share_of_zeros=0.0)
    evidence = [
        Evidence(
            measure=f"share of {layer.name} that cannot receive gradient", value=zeros / facts.seen(layer)
        )
        for layer, zeros in found
        if zeros
    ]
    words = "; ".join(dict.fromkeys(_expected_words(layer, zeros) for layer, zeros in found if zeros))
    todo = DO_EXPLORE if any(_untaken(layer) for layer, _ in found) else DO_NOTHING
    return supported(EXPECTED, facts, amounts, words, evidence=evidence, what_to_do=todo)


def _expected(facts: Facts, layer: LayerGradient) -> float:
    expected = layer.anatomy.expected if layer.anatomy is not None else 0
    return expected + untaken_zeros(facts, layer)


def _untaken(layer: LayerGradient) -> int:
    return len(layer.details.untaken_actions or ()) if layer.details is not None else 0


def _expected_words(layer: LayerGradient, zeros: float) -> str:
    if number := _untaken(layer):
        return f"{number} of the actions of {layer.name} were never taken in the batch"
    if layer.name.endswith("in_proj_bias"):
        return f"{zeros:,.0f} zeros of {layer.name} are key bias"
    return f"{zeros:,.0f} zeros of {layer.name} are rows not looked up, pruned, or a bias without effect"


def never_trained(facts: Facts) -> Finding:
    """Weights that the optimizer has never seen a gradient of."""
    unreached = list(facts.unreached)
    if unreached:
        reason = f"the optimizer holds no state of {words_of(unreached)}: no gradient ever reached it"
        evidence = [
            Evidence(measure="layers no gradient ever reached", value=float(len(unreached)), limit=0.0)
        ]
        return supported(
            NEVER, facts, dict.fromkeys(unreached, 0.0), reason, evidence=evidence, what_to_do=DO_NEVER
        )
    known = [layer for layer in facts.snapshot.layers if _never(facts, layer) is not None]
    if not known:
        why = _why_no_state(facts)
        return not_testable(NEVER, f"what the optimizer remembers is not known: {why}", GET_STATE)
    bad = [layer for layer in _counted(facts) if _never(facts, layer) is not None]
    evidence = [
        Evidence(
            measure=f"share of {layer.name} never trained",
            value=_never(facts, layer),
            limit=facts.warn(layer),
            source=LIMIT_SOURCE,
        )
        for layer in bad
        if layer.name in weighty(facts)
    ]
    lost = [layer for layer in bad if _is_lost(facts, layer)]
    if lost:
        amounts = {layer.name: _never_zeros(facts, layer) for layer in lost}
        most = max(_never(facts, layer) or 0.0 for layer in lost)
        reason = f"{percent(most)} of {words_of([layer.name for layer in lost])} never had a gradient"
        return supported(NEVER, facts, amounts, reason, evidence=evidence, what_to_do=DO_NEVER)
    if not bad:
        return rejected(NEVER, NO_BAD_LAYER, evidence)
    most = max(_never(facts, layer) or 0.0 for layer in bad)
    return rejected(
        NEVER, f"these layers did learn once: at most {percent(most)} of one never had a gradient", evidence
    )


def _counted(facts: Facts) -> list[LayerGradient]:
    """Layers with zeros; those that a fresh network has too, only where they are no small part of the whole.

    A fresh network never learned either, so it excuses nothing; but whoever rests from the start has a
    small layer or two of its own (a slice's norm), and that is no fault.
    """
    bad = bad_layers(facts)
    least = SMALL_LAYER_SHARE * facts.snapshot.num_elements
    return [layer for layer in zero_layers(facts) if layer in bad or layer.num_elements >= least]


def _never(facts: Facts, layer: LayerGradient) -> float | None:
    """Without the elements that cannot be trained."""
    if layer.optimizer is None or layer.optimizer.never_trained_fraction is None:
        return None
    expected = _expected(facts, layer) / max(facts.seen(layer), 1)
    return max(layer.optimizer.never_trained_fraction - expected, 0.0)


def _is_lost(facts: Facts, layer: LayerGradient) -> bool:
    """Whether most of the layer's zeros never were anything else, and as many as count."""
    never = _never(facts, layer) or 0.0
    return never >= facts.warn(layer) and _never_zeros(facts, layer) >= MOST * (layer.num_zero or 0)


def _never_zeros(facts: Facts, layer: LayerGradient) -> float:
    return min(float(layer.num_zero or 0), (_never(facts, layer) or 0.0) * facts.seen(layer))


def _why_no_state(facts: Facts) -> str:
    for layer in facts.snapshot.layers:
        reasons = layer.optimizer.reasons if layer.optimizer is not None else layer.reasons
        why = reasons.get("never_trained_fraction") or layer.reasons.get("optimizer")
        if why:
            return why
    return "the checkpoint holds no optimizer state"
