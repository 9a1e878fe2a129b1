"""RECORD: what goes into a user's training loop and writes down the gradients its optimizers see.

    optimizer.step()  ->  OptimizerWatch  ->  Recording  ->  *_gradscope_<N>_steps.safetensors
                          gradients.py       recording.py    *_gradscope_timeline.jsonl

``GradscopeCallback`` (sb3.py) connects this to Stable-Baselines3; nothing below it knows SB3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradscope.errors import GradscopeError

if TYPE_CHECKING:
    from gradscope.record.sb3 import GradscopeCallback

__all__ = ["GradscopeCallback"]


def __getattr__(name: str) -> Any:
    """Import the callback only when asked for: the rest of this folder works without SB3.

    Raises:
        AttributeError: there is no such name here.
        GradscopeError: Stable-Baselines3 is not installed.
    """
    if name != "GradscopeCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from gradscope.record.sb3 import GradscopeCallback  # noqa: PLC0415 - SB3 is optional
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "stable_baselines3":
            raise
        raise GradscopeError(
            'GradscopeCallback: Stable-Baselines3 is not installed. Run `pip install "stable-baselines3"`.'
        ) from error
    return GradscopeCallback
