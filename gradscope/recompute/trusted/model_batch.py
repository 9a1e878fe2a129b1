"""One batch for the loss of --model: its rows by name; observations apart, where remedies take hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from gradscope.recompute.trusted.model_drawing import FOLLOWING, OBSERVATIONS, entries
from gradscope.recompute.trusted.tensors import tensor_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradscope.recompute.roles import Observations

    Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelBatch:
    """Rows of a batch file or a buffer, [rows, ...]."""

    observations: Observations | None
    """A tensor, or by key; None where no entry is called so."""
    next_observations: Observations | None
    rows: Mapping[str, torch.Tensor]
    """All entries as they were drawn, by the names that the loss asks for."""
    stored_observations: Arrays
    """By key."""

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """What the loss is given."""
        seen = _named(OBSERVATIONS, self.observations) | _named(FOLLOWING, self.next_observations)
        return {**self.rows, **seen}


def model_batch(rows: Arrays) -> ModelBatch:
    """Copies of these rows."""
    return ModelBatch(
        observations=_observations(rows, OBSERVATIONS),
        next_observations=_observations(rows, FOLLOWING),
        rows={name: tensor_of(each) for name, each in rows.items()},
        stored_observations=entries(rows, OBSERVATIONS),
    )


def _observations(rows: Arrays, name: str) -> Observations | None:
    found = {key: tensor_of(each) for key, each in entries(rows, name).items()}
    return found.get("", found) if found else None


def _named(name: str, observations: Observations | None) -> dict[str, torch.Tensor]:
    if observations is None:
        return {}
    if isinstance(observations, torch.Tensor):
        return {name: observations}
    return {f"{name}.{key}": each for key, each in observations.items()}
