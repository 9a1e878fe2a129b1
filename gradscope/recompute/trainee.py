"""A checkpoint's networks that go on training offline, one update of the library's own after the other.

Source: train() of stable_baselines3's and sb3_contrib's off-policy algorithms. From the same state, batches
and noise the weights come out the same, bit for bit (tests/recompute/test_trainee.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch

from gradscope.recompute.activations import own_weights
from gradscope.recompute.networks import Mismatch
from gradscope.recompute.rollout_collected import collected

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from gradscope.recompute.batches import Draws
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.losses import Gradients
    from gradscope.recompute.rhythm import Rhythm
    from gradscope.recompute.rollout_batches import RolloutBatch
    from gradscope.recompute.rollout_drawing import RolloutDrawing

CRITIC: Final = "critic"
ACTOR: Final = "actor"
ENTROPY_PART: Final = "ent_coef"
ADAM: Final = "torch.optim.adam.Adam"
POLICY: Final = "policy"


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """One optimizer, and the names of what it moves in order of its parameters."""

    name: str
    """actor, critic, policy, ent_coef."""
    optimizer: Any
    names: tuple[str, ...]

    def apply(self, parameters: Mapping[str, torch.Tensor], gradients: Mapping[str, torch.Tensor]) -> None:
        """One step; a parameter without a gradient stays."""
        for name in self.names:
            parameters[name].grad = gradients.get(name)
        self.optimizer.step()
        for name in self.names:
            parameters[name].grad = None


@dataclass(kw_only=True, eq=False)
class Trainee:
    """Networks, optimizers and targets, all its own: training changes nothing else."""

    losses: Any
    """Losses, or an OnPolicy."""
    parameters: dict[str, torch.Tensor]
    """Of all networks and the entropy coefficient; what is trained are leaves."""
    parts: tuple[Part, ...]
    rhythm: Rhythm
    num_updates: int
    """Of the whole run so far."""
    num_calls: int
    """Of the environments so far."""
    modules: Mapping[str, str] = field(default_factory=dict)
    """Type of the module that owns each layer, where known."""
    num_done: int = 0
    """Updates done here."""
    notes: tuple[str, ...] = ()
    """In what this training differs from how the run would have gone on."""
    _follow: Callable[[float], None]
    """Targets follow by a fraction."""
    session: Callable[[], AbstractContextManager[None]]
    """Updates are done in its block. Where it begins and ends the process changes to the user's code and
    back, which costs more than a small update. Raises UsageError where that code failed."""
    _turn: Callable[[Draws], AbstractContextManager[torch.Generator]]
    _keep: Callable[[], Callable[[], None]]
    """Remembers what a pass of the user's modules changes by the way; what it gives puts that back."""
    _evaluate: Callable[[], None]
    """Modules behave as while collecting, until the next turn."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Everything that is trained."""
        return tuple(name for part in self.parts for name in part.names)

    def owner(self, name: str) -> Part:
        """The part whose optimizer moves a layer."""
        return next(part for part in self.parts if name in part.names)

    def update(self, one: Any, drawn: Draws, *, num_calls: int | None = None) -> Gradients:
        """One update: losses, every optimizer's step, targets. Only in a block of ``session()``.

        Args:
            one: a Batch, or for PPO and A2C a RolloutBatch.
            drawn: random states; the noise goes on from where it is.
            num_calls: of the environments by this update; None: no new ones.

        Returns:
            What the optimizers saw, the actor's gradient also where this update leaves it alone.
        """
        calls = self.num_calls, self.num_calls if num_calls is None else num_calls
        with self._turn(drawn) as noise, torch.enable_grad():
            if self.rhythm.follows_calls:
                self._follow_now(calls)
            stepping = self._critic()
            found: Gradients = self.losses.gradients(self.parameters, one, noise, stepping)
            self.num_updates += 1
            moves_actor = self.rhythm.moves_actor(self.num_updates)
            if stepping is not None and not moves_actor:
                # The library does not run its actor at this update: neither chance nor statistics moved.
                stepping.put_back()
            for part in self.parts:
                if part.name != CRITIC and (part.name != ACTOR or moves_actor):
                    part.apply(self.parameters, found.by_layer)
            if not self.rhythm.follows_calls:
                self._follow_now(calls)
        self.num_done, self.num_calls = self.num_done + 1, calls[1]
        return found

    def _follow_now(self, calls: tuple[int, int]) -> None:
        for _ in range(self.rhythm.num_target_moves(self.num_updates, self.num_done, calls)):
            self._follow(self.rhythm.tau)

    def looked_at(self, one: Any, drawn: Draws) -> Gradients:
        """The same without any step."""
        with self._turn(drawn) as noise, torch.enable_grad():
            own_weights(self.parameters)
            put_back = self._keep()
            found: Gradients = self.losses.gradients(self.parameters, one, noise, _StandingStill())
            put_back()
            return found

    def collected(self, drawing: RolloutDrawing, whole: RolloutBatch, drawn: Draws) -> RolloutDrawing:
        """A rollout as if these weights had collected it; ``whole`` are all its rows, as they see them."""
        with self._turn(drawn), torch.no_grad():
            self._evaluate()
            # Chance that a policy draws actions with is not that of the updates.
            put_back = self._keep()
            found = collected(drawing, whole, self.losses, self.parameters)
            put_back()
            return found

    def _critic(self) -> _Stepping | None:
        part = next((each for each in self.parts if each.name == CRITIC), None)
        return None if part is None else _Stepping(part=part, keep=self._keep)


@dataclass(kw_only=True, eq=False)
class _Stepping:
    """The critic's step, done on the critic itself: the actor's loss comes after it, as in the library."""

    part: Part
    keep: Callable[[], Callable[[], None]]
    put_back: Callable[[], None] = field(default=lambda: None)
    """Undoes what the actor's pass changed by the way."""

    def stepped(
        self, parameters: Mapping[str, torch.Tensor], gradients: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Nothing new: the parameters given have moved."""
        self.part.apply(parameters, gradients)
        self.put_back = self.keep()
        return {}


class _StandingStill:
    """No step at all."""

    def stepped(
        self, parameters: Mapping[str, torch.Tensor], gradients: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Nothing new."""
        del parameters, gradients
        return {}


def notes_of(training: Training) -> tuple[str, ...]:
    """In what training on differs from how the library would have gone on."""
    found = []
    if not isinstance(training.settings.get("learning_rate"), (int, float)):
        found.append("the learning rate, where it is a schedule, stays what it was at the checkpoint")
    if not training.settings.get("_n_updates"):
        found.append("the run had made no update yet by this step")
    return tuple(found)


def new_optimizer(kind: str, parameters: list[torch.Tensor]) -> Any:
    """One of torch's own, by its dotted name, without a state.

    Raises:
        Mismatch: it is none of torch's.
    """
    found = getattr(torch.optim, kind.rpartition(".")[2], None)
    if not kind.startswith("torch.optim.") or not isinstance(found, type):
        raise Mismatch(f"the optimizer {kind} is none of torch's own")
    made: Any = found
    return made(parameters, lr=1e-3)


def load_optimizer(optimizer: Any, training: Training, name: str) -> None:
    """Put the state that a checkpoint holds, and the rate of its next train(), into an optimizer.

    Raises:
        Mismatch: there is none, or it does not fit.
    """
    saved = training.optimizers.get(name)
    if saved is None:
        raise Mismatch(f"the checkpoint holds no optimizer of the {name}")
    state = {
        place: {key: torch.tensor(each) for key, each in moments.items()}
        for place, moments in saved.state.items()
    }
    try:
        optimizer.load_state_dict({"state": state, "param_groups": [dict(each) for each in saved.groups]})
    except (KeyError, ValueError, TypeError) as error:
        raise Mismatch(f"the {name}'s optimizer cannot go on from its saved state: {error}") from error
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] if training.learning_rate is None else training.learning_rate
