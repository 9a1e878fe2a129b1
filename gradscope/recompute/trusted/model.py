"""Any PyTorch model: a function of the user's gives it, with its loss of a batch (--model).

def digits():                                       # no arguments
    model = torch.nn.Sequential(...)                # as in training
    def loss(batch):                                # dict of tensors, as the batch file names them
        return torch.nn.functional.cross_entropy(model(batch["x"]), batch["y"])
    return model, loss                              # or with its optimizer: see model_trainee.py
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from gradscope.errors import UsageError
from gradscope.recompute.fresh import networks_per_batch
from gradscope.recompute.results import BatchGradients, OverBatches, Refusal
from gradscope.recompute.trusted.chance import borrowed
from gradscope.recompute.trusted.guest import Guest, GuestFailed
from gradscope.recompute.trusted.model_drawing import OBSERVATIONS, ModelDrawing, entries, num_rows
from gradscope.recompute.trusted.model_source import NO_OPTIMIZER, SHARED, ModelSource
from gradscope.recompute.trusted.model_trainee import model_trainee
from gradscope.recompute.trusted.tensors import FROZEN, UNREACHED, module_types
from gradscope.recompute.trusted.user_model import fresh_model, function_of
from gradscope.records import Clipping
from gradscope.settings import MAX_SEED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from gradscope.recompute.trainee import Trainee
    from gradscope.recompute.trusted.model_source import Saved
    from gradscope.recompute.trusted.user_model import UserModel

    Array = NDArray[Any]

CLIPPING: Final = "what the training loop clips is not part of the loss function"
ALL_ROWS: Final = "all rows of the batch file are one batch"


@dataclass(frozen=True, kw_only=True, eq=False)
class RecomputedModel(OverBatches[ModelDrawing]):
    """Gradients of a checkpoint's weights on rows of a batch file."""

    _source: ModelSource
    _user: UserModel

    def batches(self) -> Iterator[BatchGradients]:
        """One batch after the other, from the same seed at every call; weights never change.

        Raises:
            UsageError: the user's code failed on a later batch.
        """
        return self._batches(self._user)

    def fresh_batches(self) -> Iterator[BatchGradients]:
        """The same batches through new models of the function; none where it is always the same.

        Raises:
            UsageError: the user's code failed.
        """
        noise, rows = _chance(self.seed)
        again = networks_per_batch(self.num_batches)
        for place in range(self.num_batches):
            batch, start = self.drawing.batch(rows), noise.get_state()
            for number in range(place * again, (place + 1) * again):
                fresh = self._new((self.seed + number) % (MAX_SEED + 1))
                if fresh is None:
                    return
                noise.set_state(start)
                yield self._gradients(fresh, batch, noise, rows)

    def trainee(self) -> Trainee:
        """A model of its own with the checkpoint's weights and optimizer, to train on.

        Raises:
            UsageError: the optimizer cannot go on, the function always gives one model, or it failed.
        """
        return model_trainee(self._source, self._user, self.seed, self.layers)

    def fresh_parameters(self, seed: int) -> Mapping[str, torch.Tensor]:
        """Of a new model of the function.

        Raises:
            UsageError: the function always gives one model, or it failed.
        """
        fresh = self._new(seed % (MAX_SEED + 1))
        if fresh is None:
            raise UsageError(SHARED)
        return fresh.parameters

    def _new(self, seed: int) -> UserModel | None:
        try:
            with self._source.turn(seed):
                return fresh_model(self._source.function, self._user)
        except GuestFailed as problem:
            raise UsageError(str(problem)) from problem

    def _batches(self, user: UserModel) -> Iterator[BatchGradients]:
        noise, rows = _chance(self.seed)
        for _ in range(self.num_batches):
            yield self._gradients(user, self.drawing.batch(rows), noise, rows)

    def _gradients(
        self,
        user: UserModel,
        batch: Mapping[str, Array],
        noise: torch.Generator,
        rows: np.random.RandomState,
    ) -> BatchGradients:
        try:
            with self._source.guest.turn(), borrowed(noise, rows):
                gradients, looked_up = user.gradients(batch)
        except GuestFailed as problem:
            raise UsageError(str(problem)) from problem
        observations = entries(batch, OBSERVATIONS) or batch
        return BatchGradients(
            gradients=gradients,
            clipping=_clipping(gradients),
            observations=observations,
            looked_up=looked_up,
        )


def recompute_model(
    spec: str,
    weights: Mapping[str, Array],
    rows: Mapping[str, Array],
    *,
    batches: int,
    batch_size: int | None,
    seed: int,
    code: Path | None = None,
    saved: Saved = lambda: NO_OPTIMIZER,
) -> RecomputedModel | Refusal:
    """Gradients of a checkpoint's weights: imports and runs the user's code, so only after consent.

    Args:
        spec: ``package.module:function``; the function takes nothing and returns (model, loss).
        weights: the checkpoint's whole state dict; ``module.`` and ``_orig_mod.`` in names are wrappers.
        rows: of the batch file, all of one first dimension.
        batches: drawn without replacement within a batch; of no meaning without ``batch_size``.
        batch_size: rows of a batch; None: all rows, in file order, as one batch.
        seed: of torch's and numpy's random states, before the function is called and before batches.
        code: folder that stands in front of sys.path.
        saved: gives the checkpoint's optimizer, or why there is none; ``trainee()`` alone asks.
    """
    problem = _problem(rows, batches, batch_size, seed)
    if problem is not None:
        return Refusal(reason=problem)
    guest = Guest(folder=code)
    try:
        with guest.turn(), borrowed(*_chance(seed)):
            source = ModelSource(guest=guest, function=function_of(spec), weights=weights, saved=saved)
            user = source.loaded()
        return _tried(_draft(source, user, rows, num=(batches, batch_size, seed)))
    except (GuestFailed, UsageError) as failure:
        return Refusal(reason=str(failure))


def _draft(
    source: ModelSource, user: UserModel, rows: Mapping[str, Array], *, num: tuple[int, int | None, int]
) -> RecomputedModel:
    """All but the layers; ``num`` are batches, rows of a batch, seed."""
    batches, batch_size, seed = num
    return RecomputedModel(
        layers=(),
        layer_reasons={},
        reasons={} if batch_size else {"batch_size": ALL_ROWS},
        modules={user.names[name]: kind for name, kind in module_types(user.model).items()},
        drawing=ModelDrawing(
            rows=rows,
            num_batches=batches if batch_size else 1,
            batch_size=batch_size or num_rows(rows),
            seed=seed,
            takes_all=batch_size is None,
        ),
        _source=source,
        _user=user,
    )


def _tried(draft: RecomputedModel) -> RecomputedModel:
    """The first batch tells which parameters get gradients, and whether the code runs at all."""
    first, user = next(draft.batches()), draft._user  # noqa: SLF001  its own module
    frozen = {
        user.names[name] for name, parameter in user.model.named_parameters() if not parameter.requires_grad
    }
    missing = [name for name in user.names.values() if name not in first.gradients]
    return replace(
        draft,
        layers=tuple(first.gradients),
        layer_reasons={name: FROZEN if name in frozen else UNREACHED for name in missing},
    )


def _problem(rows: Mapping[str, Array], batches: int, batch_size: int | None, seed: int) -> str | None:
    there = num_rows(rows)
    if batches < 1 or (batch_size is not None and batch_size < 1):
        return f"{batches} batches of {batch_size} rows are no batches"
    if batch_size is not None and batch_size > there:
        return f"a batch of {batch_size} is larger than the batch file's {there} rows"
    return None if 0 <= seed <= MAX_SEED else f"the seed must be between 0 and {MAX_SEED}, not {seed}"


def _chance(seed: int) -> tuple[torch.Generator, np.random.RandomState]:
    return torch.Generator().manual_seed(seed), np.random.RandomState(seed)


def _clipping(gradients: Mapping[str, Array]) -> Clipping:
    norm = float(np.sqrt(sum(np.square(each, dtype=np.float64).sum() for each in gradients.values())))
    if not np.isfinite(norm):
        return Clipping(reasons={"norm_before_clip": "it is not finite", "clip_coefficient": CLIPPING})
    return Clipping(norm_before_clip=norm, reasons={"clip_coefficient": CLIPPING})
