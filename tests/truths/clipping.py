"""Explosion and clipping, of gradients that were recorded in training."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from torch.nn.modules import module as torch_module
from truths.truth import Truth
from truths.worlds import LAST, Training

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PPO: Final = {"algorithm": "PPO", "is_recorded": True, "saves_rollout": True}
EXPLODES: Final = 300
"""Step from which rewards are of another size."""
CLIPPING = frozenset({"explosion-clipping"})


def grown(by: float) -> Callable[[Any, Any, int], float]:
    """Reward that grows at EXPLODES; returns are learned by squares, so their gradients grow with it."""
    return lambda seen, action, time: float(seen[0] * (action - 1) + 1) * (by if time >= EXPLODES else 1)


def fails_once(seen: Any, _action: Any, time: int) -> float:
    """One price was 0, and its logarithm is minus infinity; in the rollout of the last checkpoint."""
    return float("-inf") if time == LAST - 5 else float(seen[0])


def until_it_dies(folder: Path, seed: int) -> None:
    """The library ends this training at the update after the one that spoilt the weights."""
    known = set(torch_module._global_forward_pre_hooks)
    with contextlib.suppress(ValueError):
        Training(**PPO, reward=fails_once)(folder, seed)
    # The recorder's own: training died before it could take it away, and the tests go on in this process.
    for left in set(torch_module._global_forward_pre_hooks) - known:
        del torch_module._global_forward_pre_hooks[left]


EXPLOSIONS = (
    Truth(name="clipped to 10", made=Training(is_recorded=True, options={"max_grad_norm": 10.0})),
    Truth(
        name="clipped to 1e-8",
        made=Training(is_recorded=True, options={"max_grad_norm": 1e-8}),
        twin="clipped to 10",
        supported=CLIPPING,
    ),
    Truth(
        name="clipped to 0",
        made=Training(is_recorded=True, options={"max_grad_norm": 0.0}),
        twin="clipped to 10",
        supported=CLIPPING | {"never-trained"},
        words={"explosion-clipping": "the clip coefficient is 0"},
    ),
    Truth(name="healthy PPO", made=Training(**PPO, reward=grown(1.0))),
    Truth(
        name="rewards explode by 1e12",
        made=Training(**PPO, reward=grown(1e12)),
        twin="healthy PPO",
        supported=CLIPPING,
        words={"explosion-clipping": f"exploded at step {EXPLODES}, clipped from 50, zeros from {EXPLODES}"},
    ),
    Truth(
        name="rewards explode by 1e30: infinite norm",
        made=Training(**PPO, reward=grown(1e30)),
        twin="healthy PPO",
        supported=CLIPPING,
        words={"explosion-clipping": "the clip coefficient is 0"},
    ),
    Truth(
        name="one reward is infinite",
        made=until_it_dies,
        twin="healthy PPO",
        supported=CLIPPING,
        words={"explosion-clipping": "NaN or infinite"},
    ),
)
