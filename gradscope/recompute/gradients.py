"""True gradients of a checkpoint, batch by batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from gradscope.errors import UsageError
from gradscope.recompute.activations import own_weights
from gradscope.recompute.batches import Drawing, batch, draws
from gradscope.recompute.critic_step import CriticStep, critic_step, fresh_step
from gradscope.recompute.dqn import is_update_pending, updated_targets
from gradscope.recompute.entropy import ENTROPY, FIXED_ENTROPY, fresh_entropy
from gradscope.recompute.fresh import fresh_weights, networks_per_batch
from gradscope.recompute.losses import choices_of, clipping_of, number_of
from gradscope.recompute.networks import Mismatch
from gradscope.recompute.observation_checks import check_originals
from gradscope.recompute.reasons import reasons_of, without_actor
from gradscope.recompute.results import BatchGradients, OverBatches, Refusal
from gradscope.recompute.ring_checks import CHOOSERS
from gradscope.recompute.support import losses_of, num_idle, optimizer_problem
from gradscope.recompute.trainee_plain import plain_trainee

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradscope.recompute.batches import Batch
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.losses import Losses
    from gradscope.recompute.networks import Parameters
    from gradscope.recompute.trainee import Trainee
    from gradscope.recompute.trusted.gradients import RecomputedPolicy
    from gradscope.recompute.trusted.user_code import UserCode
    from gradscope.records import Normalizer, Ring


@dataclass(frozen=True, kw_only=True, eq=False)
class Recomputed(OverBatches[Drawing]):
    """Gradients of a checkpoint's own weights; nothing is computed before batches are asked for."""

    _losses: Losses
    _parameters: Mapping[str, torch.Tensor]
    _step: CriticStep | None
    _algorithm: str
    _entropy_setting: object = field(default=None)
    _training: Training

    def batches(self) -> Iterator[BatchGradients]:
        """One batch after the other, from the same seed at every call; weights never change."""
        return self._batches(self._parameters, self._step)

    def fresh_batches(self) -> Iterator[BatchGradients]:
        """The same batches and noise through freshly initialised networks: the healthy baseline.

        At least NETWORKS different ones in all, the first of the drawing's own seed.
        """
        drawn, again = draws(self.drawing.seed), networks_per_batch(self.drawing.num_batches)
        for place in range(self.drawing.num_batches):
            one, start = batch(self.drawing, drawn.rows), drawn.noise.get_state()
            for number in range(place * again, (place + 1) * again):
                drawn.noise.set_state(start)
                yield self._gradients(*self._fresh(self.drawing.seed + number), one, drawn.noise)

    def trainee(self) -> Trainee:
        """These networks and their optimizers in copies, to train on.

        Raises:
            UsageError: an optimizer's state is not there, or a setting.
        """
        try:
            return plain_trainee(self._training, self._losses, self._parameters)
        except Mismatch as problem:
            raise UsageError(str(problem)) from problem

    def fresh_parameters(self, seed: int) -> Mapping[str, torch.Tensor]:
        """Of the same networks freshly initialised."""
        return self._fresh(seed)[0]

    def _fresh(self, seed: int) -> tuple[Parameters, CriticStep | None]:
        shapes = {name: tuple(self._parameters[name].shape) for name in self._losses.names}
        parameters = {**self._parameters, **fresh_weights(shapes, self._losses.targets, seed)}
        start = fresh_entropy(self._entropy_setting)
        if ENTROPY in parameters and start is not None:
            parameters[ENTROPY] = torch.full_like(parameters[ENTROPY], start)
        step = None if self._step is None else fresh_step(self._step, parameters)
        return _trainable(parameters, self.layers), step

    def _batches(self, parameters: Parameters, step: CriticStep | None) -> Iterator[BatchGradients]:
        drawn = draws(self.drawing.seed)
        for _ in range(self.drawing.num_batches):
            yield self._gradients(parameters, step, batch(self.drawing, drawn.rows), drawn.noise)

    def _gradients(
        self, parameters: Parameters, step: CriticStep | None, one: Batch, noise: torch.Generator
    ) -> BatchGradients:
        own_weights(parameters)
        with torch.enable_grad():
            found = self._losses.gradients(parameters, one, noise, step)
        return BatchGradients(
            gradients={name: found.by_layer[name].numpy() for name in self.layers if name in found.by_layer},
            clipping=clipping_of(found, self._algorithm),
            observations=one.stored_observations,
            **choices_of(self._losses, one),
        )


def recompute_gradients(
    training: Training,
    replay: Ring,
    normalizer: Normalizer | None,
    *,
    batches: int,
    batch_size: int,
    seed: int,
    user_code: UserCode | None = None,
) -> Recomputed | RecomputedPolicy | Refusal:
    """The gradients of ``batches`` batches of ``batch_size``, drawn as after set_random_seed(seed).

    The first batch is the one of the library's own train(gradient_steps=1, batch_size=batch_size), bit
    for bit on the same machine, torch and number of threads; the following ones go on drawing, on the
    same weights. The actor's gradient is there even where ``policy_delay`` would skip it (``reasons``).
    numpy's and torch's global random states are not touched.

    ``user_code`` is the user's consent: where the networks cannot be rebuilt from their weights alone,
    classes that the checkpoint names are imported and run.

    Raises:
        UnreadableFile: the checkpoint changed while it was read.
    """
    drawing = Drawing(
        ring=replay, normalizer=normalizer, num_batches=batches, batch_size=batch_size, seed=seed
    )
    try:
        losses = losses_of(training, drawing)
        doubt = check_originals(training, replay, normalizer)
        parameters, reasons = _parameters(training, losses)
        reasons |= reasons_of(training, doubt)
    except Mismatch as problem:
        if user_code is not None:
            from gradscope.recompute.trusted.gradients import trusted_gradients  # noqa: PLC0415  consent first

            return trusted_gradients(training, drawing, user_code)
        return Refusal(reason=str(problem))
    return _recomputed(training, drawing, losses, parameters, reasons)


def _recomputed(
    training: Training,
    drawing: Drawing,
    losses: Losses,
    parameters: Mapping[str, torch.Tensor],
    reasons: Mapping[str, str],
) -> Recomputed:
    step = _critic_step(training, losses, parameters)
    online = [name for name in parameters if name not in losses.targets and name != FIXED_ENTROPY]
    missing = without_actor(online, step) if isinstance(step, str) else {}
    layers = tuple(name for name in online if name not in missing)
    return Recomputed(
        layers=layers,
        drawing=drawing,
        layer_reasons=missing,
        reasons=reasons,
        _losses=losses,
        _parameters=_trainable(parameters, layers),
        _step=None if isinstance(step, str) else step,
        _algorithm=training.algorithm or "the algorithm",
        _entropy_setting=training.settings.get("ent_coef"),
        _training=training,
    )


def _parameters(training: Training, losses: Losses) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """All weights and the entropy coefficient, with DQN's pending target update done.

    Raises:
        Mismatch: nothing tells whether there was one.
    """
    owned = set(losses.names)
    parameters = {name: torch.tensor(array) for name, array in training.weights.items() if name in owned}
    if training.algorithm in {"SAC", "TQC"}:
        names = {ENTROPY, FIXED_ENTROPY} & set(training.variables)
        parameters |= {name: torch.tensor(training.variables[name]) for name in names}
    reasons = {}
    if training.algorithm in CHOOSERS:
        pending = is_update_pending(training)
        if pending:
            parameters |= updated_targets(parameters, losses.targets, number_of(training, "tau"))
            reasons["target_network"] = "the update that was pending at the checkpoint has been done"
        if pending is None:
            raise Mismatch("it cannot be told whether an update of the target network was pending")
    return parameters, reasons


def _critic_step(
    training: Training, losses: Losses, parameters: Mapping[str, torch.Tensor]
) -> CriticStep | str | None:
    """The critic's step; None where the algorithm has none, a reason where it is not known."""
    shapes = {name: tuple(each.shape) for name, each in parameters.items() if name.startswith("critic.")}
    if not shapes:
        return None
    problem = optimizer_problem(training)
    if problem is not None:
        return problem
    saved, rate = training.optimizers.get("critic"), training.learning_rate
    return critic_step(saved, shapes, rate, num_idle=num_idle(training, losses))


def _trainable(parameters: Mapping[str, torch.Tensor], layers: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """The layers as leaves that take gradients."""
    leaves = {name: parameters[name].detach().requires_grad_() for name in layers}
    return {**parameters, **leaves}
