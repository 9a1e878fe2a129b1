"""Where the models of --model come from: the user's function, a checkpoint's weights and its optimizer."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import torch

from gradscope.recompute.trusted.chance import borrowed
from gradscope.recompute.trusted.user_model import user_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from gradscope.recompute.inputs import NumberedOptimizer
    from gradscope.recompute.trusted.guest import Guest
    from gradscope.recompute.trusted.user_model import UserModel

    Saved: TypeAlias = Callable[[], NumberedOptimizer | str]

NO_OPTIMIZER: Final = "no optimizer state was given"
SHARED: Final = (
    "the --model function gives the same model at each call, and trainings would share it: build the model "
    "inside of the function"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelSource:
    """Gives one model after the other."""

    guest: Guest
    """In whose turns the function runs."""
    function: Callable[[], object]
    weights: Mapping[str, NDArray[Any]]
    """Of the checkpoint."""
    saved: Saved
    """Gives its optimizer, or why there is none."""

    def loaded(self) -> UserModel:
        """With the checkpoint's weights; only in a turn.

        Raises:
            GuestFailed: the function gives no model and loss, or the weights are not this model's.
        """
        return user_model(self.function, self.weights)

    @contextmanager
    def turn(self, seed: int) -> Iterator[None]:
        """The function's code may run in the block, its chance begins at ``seed``."""
        chance = torch.Generator().manual_seed(seed), np.random.RandomState(seed)
        with self.guest.turn(), borrowed(*chance):
            yield
