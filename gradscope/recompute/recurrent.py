"""The policy of RecurrentPPO, rebuilt from names and shapes of its weights.

Source: RecurrentActorCriticPolicy in sb3_contrib/common/recurrent/policies.py, evaluate_actions() and
_process_sequence().
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from gradscope.recompute.activations import rows_that_count, watching
from gradscope.recompute.networks import Mismatch

if TYPE_CHECKING:
    from gradscope.recompute.networks import Parameters, Perceptron, Shapes
    from gradscope.recompute.on_policy import Judged
    from gradscope.recompute.on_policy_networks import Heads
    from gradscope.recompute.roles import Features, Observations
    from gradscope.recompute.rollout_batches import Memory, States

ACTOR: Final = "lstm_actor."
CRITIC: Final = "lstm_critic."
NUM_GATES: Final = 4
_WEIGHTS: Final = ("weight_ih_l{}", "weight_hh_l{}")
_BIASES: Final = ("bias_ih_l{}", "bias_hh_l{}")


@dataclass(frozen=True, kw_only=True)
class Lstm:
    """Names of one LSTM's parameters, layer by layer, as torch orders them."""

    names: tuple[str, ...]
    num_layers: int
    has_biases: bool
    num_inputs: int
    num_units: int

    def __call__(
        self, parameters: Parameters, features: torch.Tensor, states: States, starts: torch.Tensor
    ) -> tuple[torch.Tensor, States]:
        """Outputs [rows, units] of padded sequences and the states behind them.

        Features are [rows, inputs], episode starts [rows].
        """
        num_sequences = states[0].shape[1]
        by_time = features.reshape((num_sequences, -1, self.num_inputs)).swapaxes(0, 1)
        starts = starts.reshape((num_sequences, -1)).swapaxes(0, 1)
        if torch.all(starts == 0.0):
            found, states = self._run(parameters, by_time, states)
            return torch.flatten(found.transpose(0, 1), start_dim=0, end_dim=1), states
        outputs: list[torch.Tensor] = []
        for inputs, start in zip(by_time, starts, strict=True):
            left = (1.0 - start).view(1, num_sequences, 1)
            hidden, states = self._run(
                parameters, inputs.unsqueeze(dim=0), (left * states[0], left * states[1])
            )
            outputs.append(hidden)
        return torch.flatten(torch.cat(outputs).transpose(0, 1), start_dim=0, end_dim=1), states

    def _run(
        self, parameters: Parameters, inputs: torch.Tensor, states: States
    ) -> tuple[torch.Tensor, States]:
        weights = [parameters[name] for name in self.names]
        options = (self.has_biases, self.num_layers, 0.0, True, False, False)
        found, hidden, cell = torch.lstm(inputs, states, weights, *options)
        return found, (hidden, cell)


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainRecurrentActorCritic:
    """Policy with an LSTM before the actor, and one, the same or a linear layer before the critic."""

    features: Features
    value_features: Features | None
    lstm: Lstm
    critic_lstm: Lstm | None
    critic_layer: Perceptron | None
    """Both None: the critic looks at the actor's LSTM and does not train it."""
    heads: Heads

    @property
    def names(self) -> tuple[str, ...]:
        """Its parameters."""
        parts = (self.value_features, self.heads, self.lstm, self.critic_lstm, self.critic_layer)
        return self.features.names + tuple(name for each in parts if each is not None for name in each.names)

    def __call__(
        self, parameters: Parameters, observations: Observations, actions: torch.Tensor, memory: Memory
    ) -> Judged:
        """Values, log-probabilities and entropies, each [rows], padding among them."""
        return self.stepped(parameters, observations, actions, memory)[0]

    def stepped(
        self, parameters: Parameters, observations: Observations, actions: torch.Tensor, memory: Memory
    ) -> tuple[Judged, States, States]:
        """The same, and the actor's and critic's states behind the sequences, as forward() gives them."""
        rows_that_count(memory.mask)
        with watching():
            seen = self.features(parameters, observations)
            judged = seen if self.value_features is None else self.value_features(parameters, observations)
            acting, states = self.lstm(parameters, seen, memory.actor, memory.episode_starts)
            critic = states
            if self.critic_lstm is not None:
                judging, critic = self.critic_lstm(parameters, judged, memory.critic, memory.episode_starts)
            elif self.critic_layer is not None:
                judging = self.critic_layer(parameters, judged)
            else:
                judging = acting.detach()
            return self.heads(parameters, acting, judging, actions), states, critic


def lstm(shapes: Shapes, prefix: str, num_inputs: int) -> Lstm:
    """The LSTM whose parameters start with ``prefix``.

    Raises:
        Mismatch: none, or one that is projected, bidirectional or of other widths.
    """
    has_biases = f"{prefix}bias_ih_l0" in shapes
    kinds = _WEIGHTS + (_BIASES if has_biases else ())
    found = [name for name in shapes if name.startswith(prefix)]
    num_layers = len(found) // len(kinds)
    names = [prefix + kind.format(layer) for layer in range(num_layers) for kind in kinds]
    if not names or sorted(names) != sorted(found):
        raise Mismatch(f"{prefix}* is not a plain LSTM")
    num_units = (*shapes[names[1]], 0, 0)[1]
    width = num_inputs
    for layer in range(num_layers):
        gates = NUM_GATES * num_units
        expected = [(gates, width), (gates, num_units), (gates,), (gates,)][: len(kinds)]
        if [shapes[prefix + kind.format(layer)] for kind in kinds] != expected:
            raise Mismatch(f"{prefix}* does not take {num_inputs} inputs, or its layers do not fit")
        width = num_units
    return Lstm(
        names=tuple(names),
        num_layers=num_layers,
        has_biases=has_biases,
        num_inputs=num_inputs,
        num_units=num_units,
    )
