"""REMEDY: what goes into a user's model and training loop against zero, exploding and vanishing gradients.

    observations -> SliceNormalizer, InputLayerNorm          -> the first layer
    backward     -> scale_slice_gradients, clip_by_group     -> the gradients
    step         -> slice_learning_rate, ActivityLearningRate -> the weights
    now and then -> dead_units, recycle_dead_units           -> units that no longer learn

Each name has a file of its own, which says when it helps, when it cannot, and from where that is known.
Nothing here leaves a trace in what a model or an optimizer saves, but for the statistics of SliceNormalizer
and the weights of InputLayerNorm. torch is imported when a name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradscope.errors import GradscopeError

if TYPE_CHECKING:
    from gradscope.remedy.activity_callback import ActivityLearningRateCallback
    from gradscope.remedy.activity_learning_rate import ActivityLearningRate
    from gradscope.remedy.group_clipping import clip_by_group
    from gradscope.remedy.input_layer_norm import InputLayerNorm
    from gradscope.remedy.recycle import dead_units, recycle_dead_units
    from gradscope.remedy.slice_gradients import scale_slice_gradients
    from gradscope.remedy.slice_normalizer import SliceNormalizer
    from gradscope.remedy.slice_update import SliceLearningRate, slice_learning_rate

# No file is called like a name in it: importing the file would put the module in the name's place.
_HOMES = {
    "ActivityLearningRate": "activity_learning_rate",
    "ActivityLearningRateCallback": "activity_callback",
    "InputLayerNorm": "input_layer_norm",
    "SliceLearningRate": "slice_update",
    "SliceNormalizer": "slice_normalizer",
    "clip_by_group": "group_clipping",
    "dead_units": "recycle",
    "recycle_dead_units": "recycle",
    "scale_slice_gradients": "slice_gradients",
    "slice_learning_rate": "slice_update",
}

__all__ = [
    "ActivityLearningRate",
    "ActivityLearningRateCallback",
    "InputLayerNorm",
    "SliceLearningRate",
    "SliceNormalizer",
    "clip_by_group",
    "dead_units",
    "recycle_dead_units",
    "scale_slice_gradients",
    "slice_learning_rate",
]


def __getattr__(name: str) -> Any:
    """Import a remedy from its file when it is first asked for.

    Raises:
        AttributeError: there is no such name here.
        GradscopeError: ActivityLearningRateCallback without Stable-Baselines3.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "stable_baselines3":
            raise
        raise GradscopeError(
            f'{name}: Stable-Baselines3 is not installed. Run `pip install "stable-baselines3"`.'
        ) from error
