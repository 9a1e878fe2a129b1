"""Gradients of one moment, counted batch by batch, whatever their origin."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gradscope.measure import mean, unexpected_fraction
from gradscope.measure.columns import bias_name, parallel_inputs
from gradscope.measure.layer_facts import layer_facts
from gradscope.measure.zero_details import DetailTally
from gradscope.measure.zeros import counted_lines
from gradscope.records import Clipping

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gradscope.measure.layer_facts import LayerFacts
    from gradscope.records import ZeroCount, ZeroDetails
    from gradscope.run.activity import Activity
    from gradscope.run.inputs import Array


@dataclass(frozen=True, kw_only=True)
class LayerCounts:
    """Zeros of one layer, one count a batch."""

    counts: Sequence[ZeroCount]
    baseline_zero_fraction: float | None
    sample: Array | None = None
    """The first batch's gradient, to compare the optimizer's memory with."""
    details: ZeroDetails | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TakenActions:
    """Discrete actions that were seen."""

    actions: frozenset[int]
    num_actions: int | None
    """There are to choose from; None: as many as the head has rows."""
    where: str
    """They were looked for."""


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What was recomputed for one snapshot."""

    layers: Mapping[str, LayerCounts]
    layer_reasons: Mapping[str, str]
    """Layers that got no gradient, and why."""
    num_batches: int
    batch_size: int | None
    seed: int
    norm: float | None
    """Of all layers together, mean over batches."""
    clipping: Clipping
    activity: Activity | None
    """Of the batches' own rows; None where their resting values are not known."""
    taken: TakenActions | None = None
    """Discrete actions of the batches."""
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class Tally:
    """Counts of layers over batches, filled batch by batch."""

    tolerance: float
    modules: Mapping[str, str]
    counts: dict[str, list[ZeroCount]] = field(default_factory=dict)
    norms: list[float | None] = field(default_factory=list)
    samples: dict[str, Array] = field(default_factory=dict)
    """The first batch's gradients; no other is kept."""
    details: dict[str, DetailTally] = field(default_factory=dict)
    wants_details: bool = True
    facts: dict[str, LayerFacts] = field(default_factory=dict)

    def add(
        self,
        gradients: Mapping[str, Array],
        wanted: Iterable[str],
        looked_up: Mapping[str, Array] | None = None,
    ) -> None:
        """Count the wanted layers of one batch; ``looked_up`` are the rows it used of embeddings."""
        norms = []
        if not self.facts.keys() >= gradients.keys():
            self.facts = layer_facts({name: each.shape for name, each in gradients.items()}, self.modules)
        for name in wanted:
            if name not in gradients:
                continue
            facts = replace(self.facts[name], looked_up=(looked_up or {}).get(name))
            count = self._counted(name, gradients, facts)
            self.counts.setdefault(name, []).append(count)
            self.samples.setdefault(name, gradients[name])
            norms.append(count.norm)
        known = [each for each in norms if each is not None]
        self.norms.append(math.hypot(*known) if known else None)

    def _counted(self, name: str, gradients: Mapping[str, Array], facts: LayerFacts) -> ZeroCount:
        gradient = gradients[name]
        count, lines = counted_lines(gradient, name=name, facts=facts, tolerance=self.tolerance)
        if self.wants_details:
            bias = gradients.get(bias_name(name) or "")
            tally = self.details.setdefault(name, DetailTally())
            tally.add(lines, parallel_inputs(gradient, bias, facts))
        return count

    def norm(self) -> float | None:
        """Of all layers together, mean over batches."""
        return mean(self.norms)

    def unexpected(self, name: str) -> float | None:
        """Mean share of zeros without the expected ones; None where nothing could be judged."""
        return mean([unexpected_fraction(each) for each in self.counts.get(name, ())])


def mean_clipping(clippings: Sequence[Clipping]) -> Clipping:
    """Means over batches; a value that one batch lacks stays unknown, with that batch's reason."""
    reasons = {key: reason for each in clippings for key, reason in each.reasons.items()}
    means: dict[str, float | None] = {}
    for key in ("norm_before_clip", "clip_coefficient"):
        values = [getattr(each, key) for each in clippings]
        means[key] = None if None in values else mean(values)
    return Clipping(reasons={key: reasons[key] for key in reasons if means.get(key) is None}, **means)
