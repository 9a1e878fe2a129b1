"""What hypotheses are judged by, gathered beforehand, and the words every verdict shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gradscope.records import Finding, Status, Verdict
from gradscope.records.percent import percent as rounded_percent
from gradscope.settings import Limits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.records import Effect, Evidence, LayerGradient, SnapshotGradient, StepShift, UnitActivity

MOST_NAMED: Final = 2
MOST_EVIDENCE: Final = 4
RUN_CODE: Final = "Run again with --trust --code DIR: it imports that code, and nothing else tells."
NAME_SLICE: Final = "Say which columns it is: --slice position=A:B, or slices in gradscope.toml."
NAME_ROWS: Final = "Say which rows of the batch file are observations: --replay-keys observations=KEY."
MORE_BATCHES: Final = "Run again with --batches 32."
SAVE_REPLAY: Final = (
    "Save a replay buffer with each checkpoint, or name one with --replay, so that the gradient can be "
    "computed again."
)
NO_BAD_LAYER: Final = "no layer reached a limit, so there are no zeros to explain"
LIMIT_SOURCE: Final = "warn: the case calls less healthy"


@dataclass(frozen=True, kw_only=True)
class PastStep:
    """One step of the run's past: clipping and the zeros of all layers."""

    step: int
    norm_before_clip: float | None = None
    clip_coefficient: float | None = None
    zero_fraction: float | None = None


@dataclass(frozen=True, kw_only=True)
class InputColumns:
    """What is known of the inputs of a layer that reads the observation."""

    num_inputs: int
    num_flat: int = 0
    """Dead inputs whose observation column was at rest on every row."""
    num_parallel: int = 0
    """Gradient columns parallel to the bias gradient: constant inputs that are not 0."""
    names: Sequence[str] = ()
    """Slices that the flat columns belong to."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything known of one snapshot; what is empty has its reason under its own name."""

    snapshot: SnapshotGradient
    limits: Mapping[str, Limits] = field(default_factory=dict)
    """Layers with limits of their own."""
    slice: str = "position"
    at_rest: bool = False
    """Whether ``slice`` rests on every row of this step."""
    units: Sequence[UnitActivity] = ()
    effects: Sequence[Effect] = ()
    """Of interventions on ``slice``."""
    shift: StepShift | None = None
    history: Sequence[PastStep] = ()
    """In order, this step the last."""
    inputs: Mapping[str, InputColumns] | None = None
    """By layer; None where it is not known which layers read the observation."""
    pushed_zeros: Mapping[str, int] | None = None
    """By layer: zeros whose size before clipping was above the tolerance."""
    lost_fractions: Mapping[str, float] | None = None
    """By layer: share of elements that are zero, and none when the same batches are repeated in float64."""
    unreached: Sequence[str] = ()
    """Layers that the optimizer owns and that no gradient ever reached."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why units, effects, shift, inputs, pushed_zeros or lost_fractions are missing."""

    def warn(self, layer: LayerGradient) -> float:
        """Share of a layer's elements from which zeros of one kind count."""
        return self.limits.get(layer.name, Limits()).warn

    def seen(self, layer: LayerGradient) -> int:
        """Elements looked at: of all batches."""
        return layer.num_elements * (self.snapshot.num_batches or 1)


def bad_layers(facts: Facts) -> list[LayerGradient]:
    """Layers whose zeros reached a limit, beyond what a fresh network has."""
    return [layer for layer in facts.snapshot.layers if layer.status.rank >= Status.WARN.rank]


def zero_layers(facts: Facts) -> list[LayerGradient]:
    """Bad layers, and those that are critical but for a fresh network that is as bad.

    What inputs and clipping do to every network they do to a fresh one too: where a test shows the cause,
    the fresh network on the same rows is no excuse. Below critical it may be the layer's nature.
    """
    found = []
    for layer in facts.snapshot.layers:
        expected = layer.anatomy.expected if layer.anatomy is not None else 0
        critical = facts.limits.get(layer.name, Limits()).critical * facts.seen(layer)
        is_critical = layer.num_zero is not None and layer.num_zero - expected >= critical
        if is_critical or layer.status.rank >= Status.WARN.rank:
            found.append(layer)
    return found


def weighty(facts: Facts) -> list[str]:
    """The largest layers with zeros, at most MOST_EVIDENCE: numbers of all of them would hide the answer."""
    largest = sorted(zero_layers(facts), key=lambda layer: -layer.num_elements)[:MOST_EVIDENCE]
    return [layer.name for layer in largest]


def known(evidence: Sequence[Evidence]) -> tuple[Evidence, ...]:
    """Evidence that has a number."""
    return tuple(each for each in evidence if each.value is not None)


def how_to_try(why: str) -> str:
    """What to do where a gradient could not be computed again."""
    if "--trust" in why:
        return RUN_CODE
    if "--replay-keys" in why:
        return NAME_ROWS
    if "--slice" in why:
        return NAME_SLICE
    return MORE_BATCHES if "differ too much" in why else SAVE_REPLAY


def why_no_zeros(facts: Facts) -> str | None:
    """Why the zeros of this snapshot cannot be explained at all; None where they can."""
    snapshot = facts.snapshot
    if snapshot.num_zero is None:
        why = snapshot.reasons.get("num_zero", "no gradient of this step is known")
        return f"there is no gradient: {why}"
    if snapshot.status is Status.UNKNOWN and not bad_layers(facts):
        return "the gradients of this step could not be judged"
    return None


def share(facts: Facts, zeros: float) -> float | None:
    """Of all zeros of the snapshot, 0..1; None where there are none."""
    total = facts.snapshot.num_zero
    return min(max(zeros, 0.0) / total, 1.0) if total else None


def worst_fraction(facts: Facts, amounts: Mapping[str, float]) -> float:
    """Largest share of one layer's elements that these zeros are."""
    by_name = {layer.name: layer for layer in facts.snapshot.layers}
    return max((zeros / facts.seen(by_name[name]) for name, zeros in amounts.items()), default=0.0)


def supported(
    code: str,
    facts: Facts,
    amounts: Mapping[str, float],
    reason: str,
    *,
    evidence: Sequence[Evidence] = (),
    what_to_do: str = "",
) -> Finding:
    """A hypothesis that accounts for ``amounts``: zeros by layer."""
    return Finding(
        code=code,
        verdict=Verdict.SUPPORTED,
        layers=tuple(amounts),
        share_of_zeros=share(facts, sum(amounts.values())),
        evidence=known(evidence),
        reason=reason,
        what_to_do=what_to_do,
    )


def rejected(
    code: str, reason: str, evidence: Sequence[Evidence] = (), share_of_zeros: float | None = None
) -> Finding:
    """A hypothesis that was tested and lost."""
    return Finding(
        code=code,
        verdict=Verdict.REJECTED,
        reason=reason,
        evidence=known(evidence),
        share_of_zeros=share_of_zeros,
    )


def not_testable(code: str, reason: str, what_to_do: str = "", evidence: Sequence[Evidence] = ()) -> Finding:
    """A hypothesis that nothing here can settle; ``what_to_do`` is how to get what is missing."""
    return Finding(
        code=code,
        verdict=Verdict.NOT_TESTABLE,
        reason=reason,
        what_to_do=what_to_do,
        evidence=known(evidence),
    )


def words_of(names: Sequence[str]) -> str:
    """At most MOST_NAMED names, the others counted."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more}"


def percent(fraction: float | None) -> str:
    """0.274 -> "27.4 %", never a rounded 0 or 100."""
    return rounded_percent(fraction, "an unknown share")
