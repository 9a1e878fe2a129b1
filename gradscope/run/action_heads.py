"""Output heads of discrete actions: rows of actions never taken have no gradient, and that is no fault."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from gradscope.run.counted import TakenActions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.records import LayerGradient
    from gradscope.run.join import Moment

_HEAD: Final = re.compile(r"((?:.*\.)?(?:q_net\.q_net|quantile_net\.quantile_net))\.(\d+)\.(?:weight|bias)")
"""DQN and QR-DQN: only the outputs of the actions taken enter the loss. PPO's action_net is no such head."""
IN_THE_BATCHES: Final = "in the batches"
IN_THE_BUFFER: Final = "in the replay buffer"


@dataclass(kw_only=True)
class ChoiceCount:
    """Discrete actions of batches, filled batch by batch."""

    actions: set[int] = field(default_factory=set)
    num_actions: int | None = None

    def add(self, batch: object) -> None:
        """One batch more; only value-based algorithms of discrete actions tell theirs."""
        actions = getattr(batch, "actions", None)
        if actions is not None:
            self.num_actions = getattr(batch, "num_actions", None)
            self.actions |= set(actions.reshape(-1).tolist())

    def taken(self) -> TakenActions | None:
        """All that were seen; None where none was told."""
        if not self.actions:
            return None
        seen = frozenset(self.actions)
        return TakenActions(actions=seen, num_actions=self.num_actions, where=IN_THE_BATCHES)


def taken_in_buffer(moment: Moment, layers: Sequence[LayerGradient]) -> TakenActions | None:
    """Actions in the moment's replay buffer, looked up only where a head has dead rows.

    Raises:
        UnreadableFile: the buffer changed since it was found.
    """
    heads = _heads(layers)
    dead = any(each.details and each.details.num_dead_units for each in layers if each.name in heads)
    if not dead or moment.replay is None:
        return None
    actions = moment.replay.opened().actions
    if actions is None or actions.dtype.kind not in "iu":
        return None
    return TakenActions(
        actions=frozenset(actions.reshape(-1).tolist()), num_actions=None, where=IN_THE_BUFFER
    )


def with_untaken(layers: Sequence[LayerGradient], taken: TakenActions | None) -> tuple[LayerGradient, ...]:
    """Details of the heads with the actions among their dead rows that were never taken."""
    if taken is None:
        return tuple(layers)
    heads = _heads(layers)
    return tuple(_named(each, taken) if each.name in heads else each for each in layers)


def _heads(layers: Sequence[LayerGradient]) -> set[str]:
    """Weight and bias with the highest number of each network of values."""
    numbered = [(match, each.name) for each in layers if (match := _HEAD.fullmatch(each.name))]
    last: Mapping[str, int] = {
        network: max(int(match[2]) for match, _ in numbered if match[1] == network)
        for network in {match[1] for match, _ in numbered}
    }
    return {name for match, name in numbered if int(match[2]) == last[match[1]]}


def _named(layer: LayerGradient, taken: TakenActions) -> LayerGradient:
    details = layer.details
    if details is None:
        return layer
    num_actions = taken.num_actions or (layer.shape[0] if "quantile_net" not in layer.name else None)
    if num_actions is None or layer.shape[0] % num_actions:
        why = "how many actions there are to choose from is not known"
        return replace(layer, details=replace(details, reasons={**details.reasons, "untaken_actions": why}))
    # QR-DQN lays quantiles outer, actions inner: view(-1, n_quantiles, n_actions).
    dead, repeats = set(details.dead_units), layer.shape[0] // num_actions
    untaken = tuple(
        action
        for action in range(num_actions)
        if action not in taken.actions
        if all(action + num_actions * each in dead for each in range(repeats))
    )
    reasons = {name: why for name, why in details.reasons.items() if name != "untaken_actions"}
    return replace(layer, details=replace(details, untaken_actions=untaken, reasons=reasons))
