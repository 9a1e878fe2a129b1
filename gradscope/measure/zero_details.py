"""Units and inputs that are zero in every batch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from gradscope.measure.columns import ParallelInputs, still_parallel
from gradscope.records import ZeroDetails

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradscope.measure.zero_kinds import ZeroLines

    Flags: TypeAlias = NDArray[np.bool_]

MAX_LISTED: Final = 512
"""Indexes kept of each kind: enough for every unit of a common policy, and a document stays readable."""
ONE_DIMENSION: Final = "a parameter of one dimension has no inputs"
ALONE: Final = "no earlier step of this origin was measured to compare with"
NO_HEAD: Final = "no head of discrete actions, or the actions taken are not known"


@dataclass(kw_only=True)
class DetailTally:
    """What stayed zero over all batches of one layer so far."""

    lines: ZeroLines | None = None
    parallel: ParallelInputs | str = ""
    num_dust: list[int] = field(default_factory=list)

    def add(self, lines: ZeroLines, parallel: ParallelInputs | str) -> None:
        """One batch more."""
        self.num_dust.extend([] if lines.num_dust is None else [lines.num_dust])
        if self.lines is None:
            self.lines, self.parallel = lines, parallel
            return
        before = self.lines
        both = None if before.inputs is None or lines.inputs is None else before.inputs & lines.inputs
        blocks = tuple(each for each in before.blocks if each in lines.blocks)
        self.lines = replace(lines, units=before.units & lines.units, inputs=both, blocks=blocks)
        if isinstance(parallel, ParallelInputs):
            # A batch in which nothing can be told proves nothing and takes nothing back.
            known = self.parallel
            self.parallel = still_parallel(known, parallel) if isinstance(known, ParallelInputs) else parallel

    def details(self) -> ZeroDetails:
        """Of all batches added; at least one."""
        assert self.lines is not None
        units, inputs = self.lines.units, self.lines.inputs
        reasons = {"untaken_actions": NO_HEAD}
        if inputs is None:
            reasons["num_dead_inputs"] = reasons["num_parallel_inputs"] = ONE_DIMENSION
        if not self.num_dust:
            reasons["num_dust"] = "no element is expected to be zero, or all are"
        found: dict[str, Any] = {}
        if isinstance(self.parallel, ParallelInputs):
            found = _parallel(self.parallel, inputs)
        else:
            reasons.setdefault("num_parallel_inputs", self.parallel)
        return ZeroDetails(
            num_dead_units=int(np.count_nonzero(units)),
            dead_units=listed(units),
            num_dead_inputs=None if inputs is None else int(np.count_nonzero(inputs)),
            dead_inputs=() if inputs is None else listed(inputs),
            zero_blocks=self.lines.blocks,
            num_dust=round(sum(self.num_dust) / len(self.num_dust)) if self.num_dust else None,
            reasons=reasons | dict.fromkeys(("units_since", "inputs_since"), ALONE),
            **found,
        )


def listed(flags: Flags) -> tuple[int, ...]:
    """The first indexes of the true ones."""
    return tuple(np.flatnonzero(flags)[:MAX_LISTED].tolist())


def _parallel(found: ParallelInputs, dead: Flags | None) -> dict[str, Any]:
    """Fields of what stands still; an input below the zero tolerance is dead, not parallel."""
    stands = ~np.isnan(found.constants)
    if dead is not None:
        stands &= ~dead
    places = listed(stands)
    return {
        "num_parallel_inputs": int(np.count_nonzero(stands)),
        "parallel_inputs": places,
        "parallel_constants": tuple(float(f"{found.constants[place]:.6g}") for place in places),
    }
