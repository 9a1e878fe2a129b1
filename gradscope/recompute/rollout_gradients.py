"""True gradients of an on-policy checkpoint from the rollout that the recorder stored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Final

import torch

from gradscope.errors import UsageError
from gradscope.recompute.activations import own_weights
from gradscope.recompute.batches import draws
from gradscope.recompute.fresh import networks_per_batch
from gradscope.recompute.networks import Mismatch
from gradscope.recompute.on_policy_fresh import fresh_policy
from gradscope.recompute.recurrent_batches import recurrent_batches
from gradscope.recompute.results import BatchGradients, OverBatches, Refusal
from gradscope.recompute.rollout_batches import batches
from gradscope.recompute.rollout_checks import check_algorithm, check_observations, check_states
from gradscope.recompute.rollout_doubt import doubt
from gradscope.recompute.rollout_drawing import RolloutDrawing, rollout_drawing
from gradscope.recompute.rollout_support import on_policy_of
from gradscope.recompute.trainee_plain import plain_trainee

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.random import RandomState

    from gradscope.recompute.inputs import Training
    from gradscope.recompute.networks import Parameters
    from gradscope.recompute.on_policy import OnPolicy
    from gradscope.recompute.rollout_batches import RolloutBatch
    from gradscope.recompute.rollout_trusted import TrustedRollout
    from gradscope.recompute.trainee import Trainee
    from gradscope.recompute.trusted.user_code import UserCode
    from gradscope.records import Rollout

MAX_LOG_STD: Final = 80
"""Its exponential is still a float32."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RecomputedRollout(OverBatches[RolloutDrawing]):
    """Gradients of a checkpoint's own weights; the same surface as ``Recomputed``."""

    _losses: OnPolicy
    _parameters: Parameters
    _settings: Mapping[str, object]
    _training: Training

    def batches(self) -> Iterator[BatchGradients]:
        """One mini-batch after the other, from the same seed at every call; weights never change.

        On changed inputs the policy counts as the one that collected them: else nearly every ratio would
        be clipped, which is the intervention's doing and not the inputs'.
        """
        for one in self._drawn():
            is_changed = self.drawing.change is not None
            own = self._collected(self._parameters, one) if is_changed else one
            yield self._gradients(self._parameters, own)

    def fresh_batches(self) -> Iterator[BatchGradients]:
        """The same mini-batches through freshly initialised policies: the healthy baseline.

        The rollout counts as its own: old values and log-probabilities are those of the fresh policy, as
        at any first update; by the trained policy's nearly every ratio would be clipped.
        """
        again = networks_per_batch(self.num_batches)
        for place, one in enumerate(self._drawn()):
            for number in range(place * again, (place + 1) * again):
                weights = fresh_weights(self._parameters, self._settings, self.seed + number)
                fresh = trainable(weights)
                yield self._gradients(fresh, self._collected(fresh, one))

    def trainee(self) -> Trainee:
        """This policy and its optimizer in copies, to train on.

        Raises:
            UsageError: the optimizer's state is not there.
        """
        try:
            return plain_trainee(self._training, self._losses, self._parameters)
        except Mismatch as problem:
            raise UsageError(str(problem)) from problem

    def fresh_parameters(self, seed: int) -> Parameters:
        """Of the same policy freshly initialised."""
        return fresh_weights(self._parameters, self._settings, seed)

    def _collected(self, parameters: Parameters, one: RolloutBatch) -> RolloutBatch:
        """As if these weights had collected it."""
        with torch.no_grad():
            values, log_probs, _ = self._losses.judged(parameters, one)
        return replace(one, values=values, log_probs=log_probs)

    def _drawn(self) -> Iterator[RolloutBatch]:
        return drawn(self.drawing, draws(self.seed).rows)

    def _gradients(self, parameters: Parameters, one: RolloutBatch) -> BatchGradients:
        own_weights(parameters)
        with torch.enable_grad():
            found = self._losses.gradients(parameters, one)
        return BatchGradients(
            gradients={name: found.by_layer[name].numpy() for name in self.layers if name in found.by_layer},
            clipping=found.clipping,
            observations=one.stored_observations,
        )


def recompute_rollout(
    training: Training,
    rollout: Rollout,
    *,
    batches: int,
    batch_size: int | None,
    seed: int,
    user_code: UserCode | None = None,
) -> RecomputedRollout | TrustedRollout | Refusal:
    """The gradients of the mini-batches the library's next train() draws after set_random_seed(seed).

    The first is that of its first optimizer step with ``model.batch_size = batch_size``, bit for bit on the
    same machine, torch and number of threads; the following ones are drawn as the library goes on, on the
    same weights. ``batch_size`` None: the run's own; A2C trains on the whole rollout at once.

    ``user_code`` is the user's consent: where the policy cannot be rebuilt from its weights alone, classes
    that the checkpoint names are imported and run.

    Raises:
        UnreadableFile: a file changed while it was read.
    """
    try:
        check_algorithm(training, rollout)
        drawing, reasons = rollout_drawing(rollout, batches, batch_size, seed)
    except Mismatch as problem:
        return Refusal(reason=str(problem))
    try:
        return _rebuilt(training, drawing, reasons)
    except Mismatch as problem:
        if user_code is not None:
            from gradscope.recompute.rollout_trusted import trusted_rollout  # noqa: PLC0415  consent first

            return trusted_rollout(training, drawing, reasons, user_code)
        return Refusal(reason=str(problem))


def _rebuilt(
    training: Training, drawing: RolloutDrawing, reasons: Mapping[str, str]
) -> RecomputedRollout | Refusal:
    """By a policy rebuilt from its weights.

    Raises:
        Mismatch: it cannot be.
    """
    losses = on_policy_of(training, drawing.rollout)
    check_observations(training, drawing.observations)
    check_states(training, drawing.states)
    parameters = trainable({name: torch.tensor(training.weights[name]) for name in losses.names})
    one = next(drawn(drawing, draws(drawing.seed).rows))
    with torch.no_grad():
        values, _, _ = losses.judged(parameters, one)
    note = doubt(values, one)
    if isinstance(note, Refusal):
        return note
    return RecomputedRollout(
        layers=losses.names,
        reasons={**reasons, **note},
        drawing=drawing,
        _losses=losses,
        _parameters=parameters,
        _settings=drawing.rollout.settings,
        _training=training,
    )


def drawn(drawing: RolloutDrawing, draw: RandomState) -> Iterator[RolloutBatch]:
    """The drawing's mini-batches, of sequences where there are LSTM states."""
    found = recurrent_batches(drawing, draw) if drawing.states else batches(drawing, draw)
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
        log_std=float(log_std) if isinstance(log_std, int | float) and abs(log_std) < MAX_LOG_STD else 0.0,
    )


def trainable(parameters: Parameters) -> dict[str, torch.Tensor]:
    """Leaves that take gradients."""
    return {name: each.detach().requires_grad_() for name, each in parameters.items()}
