"""True gradients through the user's own extractors and policies, batch by batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import torch

from gradscope.errors import UsageError
from gradscope.recompute.batches import Drawing, batch, draws
from gradscope.recompute.fresh import networks_per_batch
from gradscope.recompute.losses import choices_of, clipping_of
from gradscope.recompute.networks import Mismatch
from gradscope.recompute.observation_checks import check_originals
from gradscope.recompute.reasons import reasons_of, without_actor
from gradscope.recompute.results import BatchGradients, OverBatches, Refusal
from gradscope.recompute.ring_checks import check_drawing
from gradscope.recompute.trusted.chance import borrowed
from gradscope.recompute.trusted.guest import Guest, GuestFailed
from gradscope.recompute.trusted.live import Recipe, recipe
from gradscope.recompute.trusted.live_losses import PARTS
from gradscope.recompute.trusted.state import State, fresh_state, loaded_state, rate_of
from gradscope.recompute.trusted.tensors import FROZEN, UNREACHED, array_of, module_types
from gradscope.recompute.trusted.trainee import trusted_trainee
from gradscope.settings import MAX_SEED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradscope.recompute.batches import Batch, Draws
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.trainee import Trainee
    from gradscope.recompute.trusted.user_code import UserCode

SDE: Final = "state-dependent exploration (gSDE) is not recomputed"


@dataclass(frozen=True, kw_only=True, eq=False)
class RecomputedPolicy(OverBatches[Drawing]):
    """Gradients of a checkpoint's own weights through the library's policy and the user's code."""

    _training: Training
    _guest: Guest
    _recipe: Recipe
    _state: State

    def batches(self) -> Iterator[BatchGradients]:
        """One batch after the other, from the same seed at every call; weights never change.

        Raises:
            UsageError: the user's code failed on a later batch.
        """
        return self._batches(self._state)

    def fresh_batches(self) -> Iterator[BatchGradients]:
        """The same batches and noise through new policies: the healthy baseline.

        Raises:
            UsageError: the user's code failed.
        """
        drawn, again = draws(self.drawing.seed), networks_per_batch(self.drawing.num_batches)
        for place in range(self.drawing.num_batches):
            one, start = batch(self.drawing, drawn.rows), drawn.noise.get_state()
            for number in range(place * again, (place + 1) * again):
                drawn.noise.set_state(start)
                yield self._gradients(self._fresh(self.drawing.seed + number), one, drawn)

    def trainee(self) -> Trainee:
        """A policy of its own with the checkpoint's weights and optimizers, to train on.

        Raises:
            UsageError: an optimizer cannot go on, or the user's code failed.
        """
        chance = draws(self.drawing.seed)
        try:
            with self._guest.turn(), borrowed(chance.noise, chance.rows):
                state = loaded_state(self._training, self.drawing, self._recipe)
                return trusted_trainee(
                    self._training, self._guest, state.live, state.losses, state.parameters
                )
        except (GuestFailed, Mismatch) as problem:
            raise UsageError(str(problem)) from problem

    def fresh_parameters(self, seed: int) -> Mapping[str, torch.Tensor]:
        """Of a new policy.

        Raises:
            UsageError: the user's code failed.
        """
        return self._fresh(seed).parameters

    def _fresh(self, seed: int) -> State:
        chance = draws(seed % (MAX_SEED + 1))
        try:
            with self._guest.turn(), borrowed(chance.noise, chance.rows):
                return fresh_state(self._training, self._recipe)
        except GuestFailed as problem:
            raise UsageError(str(problem)) from problem

    def _batches(self, state: State) -> Iterator[BatchGradients]:
        drawn = draws(self.drawing.seed)
        for _ in range(self.drawing.num_batches):
            yield self._gradients(state, batch(self.drawing, drawn.rows), drawn)

    def _gradients(self, state: State, one: Batch, drawn: Draws) -> BatchGradients:
        try:
            with self._guest.turn(), borrowed(drawn.noise, drawn.rows) as noise, torch.enable_grad():
                state.live.start()
                step = None if isinstance(state.step, str) else state.step
                with state.live.looking_up() as looked_up:
                    found = state.losses.gradients(state.parameters, one, noise, step)
                gradients = {name: array_of(each) for name, each in found.by_layer.items()}
        except GuestFailed as problem:
            raise UsageError(str(problem)) from problem
        return BatchGradients(
            gradients={name: gradients[name] for name in state.parameters if name in gradients},
            clipping=clipping_of(found, self._training.algorithm or "the algorithm"),
            observations=one.stored_observations,
            looked_up=looked_up,
            **choices_of(state.losses, one),
        )


def trusted_gradients(
    training: Training, drawing: Drawing, user_code: UserCode
) -> RecomputedPolicy | Refusal:
    """Gradients of a checkpoint whose policy needs the user's code, which is imported and run here.

    The first batch is tried at once, so that what fails is told as a Refusal.

    Raises:
        UnreadableFile: the checkpoint changed while it was read.
    """
    try:
        _check(training, drawing)
        doubt = check_originals(training, drawing.ring, drawing.normalizer)
        reasons = reasons_of(training, doubt)
        if user_code.announce is not None:
            user_code.announce(user_code.blobs.imports)
        return _recomputed(training, drawing, user_code, reasons)
    except (Mismatch, GuestFailed, UsageError) as problem:
        return Refusal(reason=str(problem))


def _check(training: Training, drawing: Drawing) -> None:
    """Everything that can be told before code is run."""
    if training.algorithm not in PARTS:
        known = ", ".join(PARTS)
        raise Mismatch(f"gradients are recomputed for {known}, not for {training.algorithm or 'this policy'}")
    if training.settings.get("use_sde") is True:
        raise Mismatch(SDE)
    check_drawing(training, drawing)


def _recomputed(
    training: Training, drawing: Drawing, user_code: UserCode, reasons: Mapping[str, str]
) -> RecomputedPolicy:
    guest, drawn = Guest(folder=user_code.folder), draws(drawing.seed)
    with guest.turn(), borrowed(drawn.noise, drawn.rows):
        made = recipe(user_code.blobs, rate_of(training))
        state = loaded_state(training, drawing, made)
    draft = RecomputedPolicy(
        layers=(),
        drawing=drawing,
        layer_reasons={},
        reasons={**reasons, **state.reasons},
        modules=module_types(state.live.policy),
        _training=training,
        _guest=guest,
        _recipe=made,
        _state=state,
    )
    return _tried(draft)


def _tried(draft: RecomputedPolicy) -> RecomputedPolicy:
    """The first batch tells which layers get gradients, and whether the code runs at all."""
    state: State = draft._state  # noqa: SLF001  its own module
    first: Any = next(draft.batches())
    missing = [name for name in state.layers if name not in first.gradients]
    told = without_actor(missing, state.step) if isinstance(state.step, str) else {}
    reasons = {name: told.get(name) or _why_none(state, name) for name in missing}
    return replace(draft, layers=tuple(first.gradients), layer_reasons=reasons)


def _why_none(state: State, name: str) -> str:
    return UNREACHED if state.live.own[name].requires_grad else FROZEN
