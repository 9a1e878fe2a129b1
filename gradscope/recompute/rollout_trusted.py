"""True gradients of an on-policy policy with the user's own code in it; they have said that it may run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import torch

from gradscope.errors import UsageError
from gradscope.recompute.batches import draws
from gradscope.recompute.fresh import networks_per_batch
from gradscope.recompute.networks import Mismatch
from gradscope.recompute.results import BatchGradients, OverBatches, Refusal
from gradscope.recompute.rollout_checks import check_observations
from gradscope.recompute.rollout_doubt import doubt
from gradscope.recompute.rollout_drawing import RolloutDrawing
from gradscope.recompute.rollout_gradients import drawn
from gradscope.recompute.rollout_live import judged, live_on_policy, loaded_policy
from gradscope.recompute.rollout_support import distribution_of, settings_of
from gradscope.recompute.trusted.chance import borrowed
from gradscope.recompute.trusted.guest import Guest, GuestFailed
from gradscope.recompute.trusted.live import live, recipe
from gradscope.recompute.trusted.state import rate_of
from gradscope.recompute.trusted.tensors import FROZEN, UNREACHED, array_of, module_types
from gradscope.recompute.trusted.trainee import trusted_trainee
from gradscope.settings import MAX_SEED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradscope.recompute.batches import Draws
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.losses import Gradients
    from gradscope.recompute.networks import Parameters
    from gradscope.recompute.on_policy import OnPolicy
    from gradscope.recompute.rollout_batches import RolloutBatch
    from gradscope.recompute.trainee import Trainee
    from gradscope.recompute.trusted.live import Live, Recipe
    from gradscope.recompute.trusted.user_code import UserCode

NOT_HELD: Final = "no optimizer moves this parameter"
SDE: Final = "state-dependent exploration (gSDE) is not recomputed"


@dataclass(frozen=True, kw_only=True, eq=False)
class TrustedRollout(OverBatches[RolloutDrawing]):
    """Gradients of a checkpoint's own weights; the same surface as ``Recomputed``."""

    _guest: Guest
    _recipe: Recipe
    _losses: OnPolicy
    _live: Live
    _training: Training

    def batches(self) -> Iterator[BatchGradients]:
        """One mini-batch after the other, from the same seed at every call; weights never change.

        On changed inputs the policy counts as the one that collected them, as in RecomputedRollout.

        Raises:
            UsageError: the user's code failed on a later batch.
        """
        chance, aside = draws(self.seed), draws(self.seed)
        for one in drawn(self.drawing, chance.rows):
            is_changed = self.drawing.change is not None
            # Its chance is not that of the gradients, which stay comparable with those as they were.
            own = self._collected(self._losses, self._live, one, aside) if is_changed else one
            yield self._gradients(self._losses, self._live, own, chance)

    def fresh_batches(self) -> Iterator[BatchGradients]:
        """The same mini-batches through new policies, as if each had collected them: the healthy baseline.

        Raises:
            UsageError: the user's code failed.
        """
        again = networks_per_batch(self.num_batches)
        for place, one in enumerate(drawn(self.drawing, draws(self.seed).rows)):
            for number in range(place * again, (place + 1) * again):
                chance = draws((self.seed + number) % (MAX_SEED + 1))
                here, losses = self._fresh(chance)
                yield self._gradients(losses, here, self._collected(losses, here, one, chance), chance)

    def trainee(self) -> Trainee:
        """A policy of its own with the checkpoint's weights and optimizer, to train on.

        Raises:
            UsageError: the optimizer cannot go on, or the code failed.
        """
        chance = draws(self.seed)
        try:
            with self._guest.turn(), borrowed(chance.noise, chance.rows):
                here = loaded_policy(self._training, self._recipe)
                losses = live_on_policy(self.drawing, here)
                return trusted_trainee(self._training, self._guest, here, losses, here.own)
        except (GuestFailed, Mismatch) as problem:
            raise UsageError(str(problem)) from problem

    def fresh_parameters(self, seed: int) -> Parameters:
        """Of a new policy."""
        return self._fresh(draws(seed % (MAX_SEED + 1)))[0].own

    def _collected(self, losses: OnPolicy, here: Live, one: RolloutBatch, chance: Draws) -> RolloutBatch:
        """As if this policy had collected it."""
        try:
            values, log_probs, _ = judged(self._guest, losses, here, one, chance)
        except GuestFailed as problem:
            raise UsageError(str(problem)) from problem
        return replace(one, values=values, log_probs=log_probs)

    def _fresh(self, chance: Draws) -> tuple[Live, OnPolicy]:
        try:
            with self._guest.turn(), borrowed(chance.noise, chance.rows):
                here = live(self._recipe.made())
        except GuestFailed as problem:
            raise UsageError(str(problem)) from problem
        return here, live_on_policy(self.drawing, here)

    def _gradients(self, losses: OnPolicy, here: Live, one: RolloutBatch, chance: Draws) -> BatchGradients:
        try:
            with self._guest.turn(), borrowed(chance.noise, chance.rows), torch.enable_grad():
                here.start()
                with here.looking_up() as looked_up:
                    found: Gradients = losses.gradients(here.own, one)
                held = here.names(here.policy.optimizer)
        except GuestFailed as problem:
            raise UsageError(str(problem)) from problem
        return BatchGradients(
            gradients={name: array_of(each) for name, each in found.by_layer.items() if name in held},
            clipping=found.clipping,
            observations=one.stored_observations,
            looked_up=looked_up,
        )


def trusted_rollout(
    training: Training,
    drawing: RolloutDrawing,
    reasons: Mapping[str, str],
    user_code: UserCode,
) -> TrustedRollout | Refusal:
    """Gradients of a checkpoint whose policy needs the user's code, which is imported and run here.

    Raises:
        UnreadableFile: the checkpoint changed while it was read.
    """
    try:
        _check(training, drawing)
        if user_code.announce is not None:
            user_code.announce(user_code.blobs.imports)
        return _tried(_draft(training, drawing, reasons, user_code))
    except (Mismatch, GuestFailed, UsageError) as problem:
        return Refusal(reason=str(problem))


def _check(training: Training, drawing: RolloutDrawing) -> None:
    """Everything that can be told before code is run."""
    if training.settings.get("use_sde") or drawing.rollout.settings.get("use_sde"):
        raise Mismatch(SDE)
    distribution_of(drawing.rollout)
    settings_of(drawing.rollout)
    if training.space is not None:
        check_observations(training, drawing.observations)


def _draft(
    training: Training,
    drawing: RolloutDrawing,
    reasons: Mapping[str, str],
    user_code: UserCode,
) -> TrustedRollout:
    guest, chance = Guest(folder=user_code.folder), draws(drawing.seed)
    with guest.turn(), borrowed(chance.noise, chance.rows):
        made = recipe(user_code.blobs, rate_of(training))
        here = loaded_policy(training, made)
    return TrustedRollout(
        layers=(),
        layer_reasons={},
        reasons=reasons,
        modules=module_types(here.policy),
        drawing=drawing,
        _guest=guest,
        _recipe=made,
        _losses=live_on_policy(drawing, here),
        _live=here,
        _training=training,
    )


def _tried(draft: TrustedRollout) -> TrustedRollout | Refusal:
    """The first batch tells whose weights these are, which layers get gradients, and if the code runs."""
    here, guest, losses = draft._live, draft._guest, draft._losses  # noqa: SLF001  its own module
    chance = draws(draft.seed)
    one = next(drawn(draft.drawing, chance.rows))
    values, _, _ = judged(guest, losses, here, one, chance)
    note = doubt(values, one)
    if isinstance(note, Refusal):
        return note
    first = next(draft.batches())
    held = here.names(here.policy.optimizer)
    missing = {
        name: FROZEN if not each.requires_grad else UNREACHED if name in held else NOT_HELD
        for name, each in here.own.items()
        if name not in first.gradients
    }
    reasons = {**draft.reasons, **note}
    return replace(draft, layers=tuple(first.gradients), layer_reasons=missing, reasons=reasons)
