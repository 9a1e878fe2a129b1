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


Item = TypeVar("Item")
_PARTS: Final = re.compile(r"[A-Za-z]+[0-9]*|[0-9]+[A-Za-z]+")
_SAY_NOTHING: Final = frozenset(
    (
        *("replay", "buffer", "replaybuffer", "rb", "memory", "vec", "normalize", "vecnormalize", "rollout"),
        *("rollouts", "gradscope", "step", "steps", "timesteps", "ckpt", "checkpoint", "model", "data"),
    )
)
"""What a file is, not whose."""


def words(path: Path) -> frozenset[str]:
    """Whose a file is: its name without kind, number and ending; rl of rl_model_replay_buffer_2000_steps."""
    stem = path.name.partition(".")[0].lower()
    return frozenset(_PARTS.findall(stem)) - _SAY_NOTHING


@dataclass(frozen=True, kw_only=True)
class Claims(Generic[Item]):
    """Files of one kind by their step."""

    items: Mapping[int | None, Sequence[Item]]
    source_of: Callable[[Item], Path]

    def of(self, checkpoint: Path | None, twins: Sequence[Path], step: int | None) -> Sequence[Item]:
        """Those of the step that can be the checkpoint's, the first of them counts.

        A file belongs to the checkpoints whose names have all of its words (a_critic has those of a_buffer),
        the more of them the surer; one with words of no checkpoint's, or with none, may be anybody's.

        Args:
            checkpoint: None for a recorder file that stands alone; for a double, what it doubles.
            twins: checkpoints of the same step, it among them.
            step: None where it is not known: then nothing is.
        """
        same = self.items.get(step, ()) if step is not None else ()
        if checkpoint is None or not same:
            return same
        own, others = words(checkpoint), [words(each) for each in twins]
        named = [(words(self.source_of(each)), each) for each in same]
        fitting = [(len(told), each) for told, each in named if told and told <= own]
        if fitting:
            most = max(count for count, _ in fitting)
            return [each for count, each in fitting if count == most]
        return [each for told, each in named if not told or not any(told <= other for other in others)]

    def only(self) -> Item | None:
        """The one item there is, where it has no step."""
        unknown = self.items.get(None, ())
        return unknown[0] if list(self.items) == [None] and len(unknown) == 1 else None


def prefix(path: Path) -> str:
    """What a callback was told to begin names with: rl_model of rl_model_gradscope_2000_steps."""
    stem = path.name.removesuffix(".safetensors").removesuffix(".zip").removesuffix("_steps")
    return stem.rstrip("0123456789").rstrip("_").removesuffix("_gradscope")
