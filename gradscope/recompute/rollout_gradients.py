"""True gradients of an on-policy checkpoint from the rollout that the recorder stored."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import torch

from gradscope.recompute.gradients import BatchGradients, Refusal
from gradscope.recompute.networks import Mismatch
from gradscope.recompute.on_policy import A2C, RECURRENT
from gradscope.recompute.on_policy_fresh import fresh_policy
from gradscope.recompute.recurrent_batches import recurrent_batches
from gradscope.recompute.rollout_batches import RolloutDrawing, batches, num_rows
from gradscope.recompute.rollout_checks import check_algorithm, check_observations, check_states, number_of
from gradscope.recompute.rollout_support import on_policy_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from gradscope.recompute.inputs import Training
    from gradscope.recompute.networks import Parameters
    from gradscope.recompute.on_policy import OnPolicy
    from gradscope.recompute.rollout_batches import RolloutBatch
    from gradscope.records import Rollout

MAX_SEED: Final = 2**32 - 1
NEAR: Final = 1e-4
FAR: Final = 1e-2
"""Relative differences of values: up to NEAR by rounding (another device), beyond FAR by other weights."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RecomputedRollout:
    """Gradients of a checkpoint's own weights; the same surface as ``Recomputed``."""

    layers: tuple[str, ...]
    """Those that get gradients, in file order."""
    layer_reasons: Mapping[str, str] = field(default_factory=dict)
    """Layers that get none: the losses reach every parameter of these policies."""
    reasons: Mapping[str, str]
    """What else to know: batches, batch_size, rollout."""
    modules: Mapping[str, str] = field(default_factory=dict)
    _drawing: RolloutDrawing
    _states: Mapping[str, NDArray[Any]]
    _losses: OnPolicy
    _parameters: Parameters
    _settings: Mapping[str, object]

    @property
    def num_batches(self) -> int:
        """Mini-batches."""
        return self._drawing.num_batches

    @property
    def batch_size(self) -> int:
        """Rows of a mini-batch."""
        return self._drawing.batch_size

    @property
    def seed(self) -> int:
        """As given to set_random_seed."""
        return self._drawing.seed

    def batches(self) -> Iterator[BatchGradients]:
        """One mini-batch after the other, from the same seed at every call; weights never change."""
        for one in self._drawn():
            yield self._gradients(self._parameters, one)

    def fresh_batches(self) -> Iterator[BatchGradients]:
        """The same mini-batches through a freshly initialised policy: the healthy baseline.

        The rollout counts as its own: old values and log-probabilities are those of the fresh policy, as
        at any first update; by the trained policy's nearly every ratio would be clipped.
        """
        fresh = trainable(fresh_weights(self._parameters, self._settings, self.seed))
        for one in self._drawn():
            with torch.no_grad():
                values, log_probs, _ = self._losses.judged(fresh, one)
            yield self._gradients(fresh, replace(one, values=values, log_probs=log_probs))

    def _drawn(self) -> Iterator[RolloutBatch]:
        return drawn(self._drawing, self._states)

    def _gradients(self, parameters: Parameters, one: RolloutBatch) -> BatchGradients:
        with torch.enable_grad():
            found = self._losses.gradients(parameters, one)
        return BatchGradients(
            gradients={name: found.by_layer[name].numpy() for name in self.layers if name in found.by_layer},
            clipping=found.clipping,
            observations=one.stored_observations,
        )


def recompute_rollout(
    training: Training, rollout: Rollout, *, batches: int, batch_size: int | None, seed: int
) -> RecomputedRollout | Refusal:
    """The gradients of the mini-batches the library's next train() draws after set_random_seed(seed).

    The first is that of its first optimizer step with ``model.batch_size = batch_size``, bit for bit on the
    same machine, torch and number of threads; the following ones are drawn as the library goes on, on the
    same weights. ``batch_size`` None: the run's own; A2C trains on the whole rollout at once.

    Raises:
        UnreadableFile: a file changed while it was read.
    """
    try:
        check_algorithm(training, rollout)
        losses = on_policy_of(training, rollout)
        drawing, reasons = _drawing(rollout, batches, batch_size, seed)
        check_observations(training, drawing.observations)
        states = dict(rollout.lstm_states) if rollout.algorithm == RECURRENT else {}
        check_states(training, states)
    except Mismatch as problem:
        return Refusal(reason=str(problem))
    parameters = trainable({name: torch.tensor(training.weights[name]) for name in losses.names})
    difference = _difference(losses, parameters, next(drawn(drawing, states)))
    if not difference <= FAR:
        return Refusal(
            reason=f"the rollout was collected by other weights: their values differ by {difference:.2g}"
        )
    if difference > NEAR:
        reasons["rollout"] = f"values differ by {difference:.2g} from those of the training: another device"
    return RecomputedRollout(
        layers=losses.names,
        reasons=reasons,
        _drawing=drawing,
        _states=states,
        _losses=losses,
        _parameters=parameters,
        _settings=rollout.settings,
    )


def drawn(drawing: RolloutDrawing, states: Mapping[str, NDArray[Any]]) -> Iterator[RolloutBatch]:
    """The drawing's mini-batches, of sequences where there are LSTM states."""
    found = recurrent_batches(drawing, states) if states else batches(drawing)
    return islice(found, drawing.num_batches)


def fresh_weights(
    parameters: Parameters, settings: Mapping[str, object], seed: int
) -> dict[str, torch.Tensor]:
    """A new policy of the same shapes."""
    log_std = settings.get("log_std_init")
    return fresh_policy(
        {name: tuple(each.shape) for name, each in parameters.items()},
        seed,
        is_orthogonal=settings.get("ortho_init") is not False,
        log_std=float(log_std) if isinstance(log_std, int | float) else 0.0,
    )


def trainable(parameters: Parameters) -> dict[str, torch.Tensor]:
    """Leaves that take gradients."""
    return {name: each.detach().requires_grad_() for name, each in parameters.items()}


def _drawing(
    rollout: Rollout, num_batches: int, batch_size: int | None, seed: int
) -> tuple[RolloutDrawing, dict[str, str]]:
    """What is drawn, and what is not as one might think.

    Raises:
        Mismatch: such batches cannot be drawn.
    """
    rows, reasons = num_rows(rollout), {}
    size = _batch_size(rollout, batch_size)
    if num_batches < 1 or not 1 <= size <= rows:
        raise Mismatch(f"{num_batches} batches of {size} rows cannot be drawn from a rollout of {rows}")
    if not 0 <= seed <= MAX_SEED:
        raise Mismatch(f"the seed must be between 0 and {MAX_SEED}, not {seed}")
    if size == rows and num_batches > 1:
        num_batches = 1
        reasons["batches"] = f"one batch holds the whole rollout of {rows} rows"
    elif rows % size:
        reasons["batch_size"] = f"the smaller batch of {rows % size} rows that ends an epoch is left out"
    drawing = RolloutDrawing(
        rollout=rollout,
        observations=dict(rollout.observations),
        num_batches=num_batches,
        batch_size=size,
        seed=seed,
    )
    return drawing, reasons


def _batch_size(rollout: Rollout, asked: int | None) -> int:
    rows = num_rows(rollout)
    if rollout.algorithm == A2C:
        if asked not in {None, rows}:
            raise Mismatch(f"A2C trains on its whole rollout of {rows} rows at once, not on {asked}")
        return rows
    # The library draws one smaller batch where its own is larger than the rollout.
    return min(int(number_of(rollout, "batch_size")), rows) if asked is None else asked


def _difference(losses: OnPolicy, parameters: Parameters, one: RolloutBatch) -> float:
    """Largest difference between values by these weights and the rollout's, relative to the largest."""
    with torch.no_grad():
        values, _, _ = losses.judged(parameters, one)
    real = slice(None) if one.memory is None else one.memory.mask
    found, stored = values[real].double(), one.values[real].double()
    if not (torch.isfinite(found).all() and torch.isfinite(stored).all()):
        return 0.0 if torch.equal(torch.isfinite(found), torch.isfinite(stored)) else float("inf")
    return float((found - stored).abs().max() / (1 + stored.abs().max()))
