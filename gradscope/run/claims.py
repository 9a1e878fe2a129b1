"""Which buffer, rollout and normalizer of a step belongs to which checkpoint: by name, where several could.

Two runs often save into one folder: runA_2000_steps.zip and runA_replay_buffer_2000_steps.pkl beside runB's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from gradscope.records import Snapshot

Item = TypeVar("Item")
_END: Final = re.compile(r"[-_.]*([0-9]+[-_]?(steps?)?)?(\.[a-z]\w*)*$", re.IGNORECASE)
_KIND: Final = re.compile(r"[-_](replay[-_]?buffer|buffer|replay|vec[-_]?normalize|rollouts?|gradscope)$")


def prefix(path: Path) -> str:
    """What a run begins its names with: rl_model of rl_model_replay_buffer_2000_steps.pkl."""
    return _KIND.sub("", _END.sub("", path.name, count=1))


@dataclass(frozen=True, kw_only=True)
class Claims(Generic[Item]):
    """Files of one kind by their step."""

    items: Mapping[int | None, Sequence[Item]]
    source_of: Callable[[Item], Path]

    def of(self, checkpoint: Snapshot | None, twins: Sequence[Snapshot], step: int | None) -> Sequence[Item]:
        """Those of the step that can be the checkpoint's, the first of them counts.

        Args:
            checkpoint: None for a recorder file that stands alone.
            twins: checkpoints of the same step that are no doubles of it, it among them.
            step: None where it is not known: then nothing is.
        """
        same = self.items.get(step, ()) if step is not None else ()
        if checkpoint is None or not same:
            return same
        own = prefix(checkpoint.source)
        if alike := [each for each in same if prefix(self.source_of(each)) == own]:
            return alike
        others = {prefix(each.source) for each in twins}
        return [each for each in same if prefix(self.source_of(each)) not in others]

    def only(self) -> Item | None:
        """The one item there is, where it has no step."""
        unknown = self.items.get(None, ())
        return unknown[0] if list(self.items) == [None] and len(unknown) == 1 else None
