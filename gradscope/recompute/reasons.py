"""What a user should know beside recomputed gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradscope.recompute.ring_checks import CHOOSERS
from gradscope.recompute.td3 import skips_actor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradscope.recompute.inputs import Training


def reasons_of(training: Training, doubt: str | None) -> dict[str, str]:
    """What the library would do otherwise, and what is not known.

    Raises:
        Mismatch: the checkpoint does not say.
    """
    found = {} if doubt is None else {"replay": doubt}
    if training.algorithm in {"TD3", "DDPG"} and skips_actor(training):
        found["policy_delay"] = "the library's next train() would leave the actor alone"
    if training.algorithm not in CHOOSERS and training.learning_rate is None:
        found["learning_rate"] = (
            "a function decides it and is not run: the critic's step before the actor's loss "
            "uses the last update's"
        )
    return found


def without_actor(layers: Sequence[str], problem: str) -> dict[str, str]:
    """Why the actor's layers get no gradient."""
    reason = f"{problem}: the actor's loss needs the critic after its step"
    return {name: reason for name in layers if name.startswith("actor.")}
