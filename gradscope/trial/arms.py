"""What each remedy does to a training: to its batches, its gradients, its steps or its units."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.errors import UsageError
from gradscope.measure import active_rows, slice_values
from gradscope.run.interventions import OTHER_ROWS
from gradscope.trial.inputs import InputModule, input_layer_norm, layout, slice_normalizer
from gradscope.trial.recycling import Recycling

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from gradscope.recompute.trainee import Trainee
    from gradscope.records import Slice
    from gradscope.run.inputs import RunSlices
    from gradscope.trial.feed import Feed

    Columns = NDArray[np.bool_]

NONE: Final = "none"
WHOLE_NUMBERS: Final = "the observations are whole numbers or images, no features to normalise"
NO_OWN: Final = "no weight takes the slice's columns directly"
MATRIX: Final = 2
NO_REST: Final = "the rows are stored after VecNormalize: at which value the slice rests is not known"
NEVER_MOVES: Final = "the slice rests on every row of this and the later checkpoints"
FACTOR: Final = 0.1
"""Of gradients and of updates: what the case proposed."""
RATE: Final = 0.5
"""Of the learning rate: what the case proposed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """What remedies need to know of a run."""

    found: Any
    """The recomputation that trainees come from."""
    feed: Feed
    wanted: Slice | str
    """The slice; or why there is none."""
    known: RunSlices
    own: Mapping[str, Columns] | str
    """The slice's own columns by layer; or why they are not known."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Arm:
    """A training with a remedy in it."""

    trainee: Trainee
    inputs: InputModule | None = None
    before: Callable[[int, int, Any], None] | None = None
    """Called before each update with its number, how far the feed has come, and the batch."""
    note: str = ""

    def ready(self, number: int, end: int, one: Any) -> Any:
        """The batch as this training takes it, after what comes before an update."""
        one = one if self.inputs is None else self.inputs.on(one)
        if self.before is not None:
            self.before(number, end, one)
        return one


def unchanged(context: Context, seed: int) -> Arm | str:
    """The training as it was."""
    del seed
    return Arm(trainee=context.found.trainee())


def with_slice_normalizer(context: Context, seed: int) -> Arm | str:
    """The case's first fix."""
    return _with_inputs(context, slice_normalizer, seed)


def with_input_layer_norm(context: Context, seed: int) -> Arm | str:
    """A layer norm for each slice of the input."""
    return _with_inputs(context, input_layer_norm, seed)


def with_slice_gradient_scale(context: Context, seed: int) -> Arm | str:
    """The case's second fix: a tenth of the gradient in the slice's own columns."""
    del seed
    from gradscope.remedy import scale_slice_gradients  # noqa: PLC0415  torch, only where it is tried

    columns_of = _matrices(context)
    if isinstance(columns_of, str):
        return columns_of
    trainee, note = context.found.trainee(), ""
    for name, columns in columns_of.items():
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            scale_slice_gradients(
                trainee.parameters[name], _numbers(columns), FACTOR, optimizer=trainee.owner(name).optimizer
            )
        note = note or (CANCELS if told else "")
    return Arm(trainee=trainee, note=note)


def with_slice_learning_rate(context: Context, seed: int) -> Arm | str:
    """What the second fix was meant to do: a tenth of every update of the slice's own columns."""
    del seed
    from gradscope.remedy import slice_learning_rate  # noqa: PLC0415  torch, only where it is tried

    columns_of = _matrices(context)
    if isinstance(columns_of, str):
        return columns_of
    trainee = context.found.trainee()
    for name, columns in columns_of.items():
        slice_learning_rate(
            trainee.owner(name).optimizer, trainee.parameters[name], _numbers(columns), FACTOR
        )
    return Arm(trainee=trainee)


def with_activity_learning_rate(context: Context, seed: int) -> Arm | str:
    """The case's third fix: half the rate while the slice is active in the newest rows."""
    del seed
    from gradscope.remedy import ActivityLearningRate  # noqa: PLC0415  torch, only where it is tried

    wanted, known = context.wanted, context.known
    if isinstance(wanted, str):
        return wanted
    if context.found.drawing.kind.are_normalised and known.normalised:
        return NO_REST
    if context.own == OTHER_ROWS:
        return OTHER_ROWS
    trainee = context.found.trainee()
    rate = ActivityLearningRate([part.optimizer for part in trainee.parts], RATE)

    def before(number: int, end: int, one: Any) -> None:
        del number
        newest = context.feed.newest(end) or one.stored_observations
        values = slice_values(newest, wanted, known.sequence_length)
        rate.set_fraction(float(np.mean(active_rows(values, known.resting[wanted.name]))))

    return Arm(trainee=trainee, before=before)


def with_recycling(context: Context, seed: int) -> Arm | str:
    """Dead units begin anew, at once and every hundred updates."""
    recycling = Recycling(trainee=context.found.trainee(), found=context.found, seed=seed)
    return Arm(trainee=recycling.trainee, before=recycling.before)


CANCELS: Final = (
    "under an optimizer that divides by its own second moment (Adam and the like) a constant factor cancels"
)
REMEDIES: Final[Mapping[str, Callable[[Context, int], Arm | str]]] = {
    NONE: unchanged,
    "slice-normalizer": with_slice_normalizer,
    "input-layer-norm": with_input_layer_norm,
    "slice-gradient-scale": with_slice_gradient_scale,
    "slice-learning-rate": with_slice_learning_rate,
    "activity-learning-rate": with_activity_learning_rate,
    "recycle-dead-units": with_recycling,
}
"""By the names of CONTRACT's ``try``."""


def _with_inputs(context: Context, make: Any, seed: int) -> Arm | str:
    del seed
    if isinstance(context.wanted, str):
        return context.wanted
    if context.own == OTHER_ROWS:
        return OTHER_ROWS
    if context.feed.dtype_of(context.wanted.key).kind != "f":
        return WHOLE_NUMBERS
    try:
        module = make(layout(context.wanted, context.known))
    except UsageError as problem:
        return str(problem)
    return Arm(trainee=context.found.trainee(), inputs=module)


def _matrices(context: Context) -> Mapping[str, Columns] | str:
    """The slice's own columns of weights; of a vector, as a norm in front has it, they are elements."""
    if isinstance(context.own, str):
        return context.own
    shapes = {name: each.dim() for name, each in context.found.fresh_parameters(0).items()}
    found = {name: each for name, each in context.own.items() if shapes.get(name, 0) >= MATRIX}
    return found or NO_OWN


def _numbers(columns: Columns) -> list[int]:
    return [int(each) for each in np.flatnonzero(columns)]
