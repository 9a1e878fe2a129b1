"""Weights that never learn, and zeros that are no fault."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn
from truths.truth import SLICES, Truth
from truths.units import negative_biases
from truths.worlds import Training

WIDTH: Final = 16
FEW_TAKEN: Final = {"learning_starts": 0, "exploration_initial_eps": 0.0, "exploration_final_eps": 0.0}
"""The network's own favourites only."""
DECAY: Final = {"weight_decay": 0.01}
TRUSTED: Final = replace(SLICES, trust=True)
"""The extractors below are code of the user's."""
NEVER, EXPECTED, DEAD = (frozenset({each}) for each in ("never-trained", "expected-zeros", "dead-units"))


class Attending(BaseFeaturesExtractor):
    """Self-attention over the columns of an observation, each a token of its own."""

    def __init__(self, space: Any) -> None:
        super().__init__(space, WIDTH)
        self.embedding = nn.Linear(1 + space.shape[0], WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.register_buffer("places", torch.eye(space.shape[0]), persistent=False)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        places = self.places.expand(len(observations), -1, -1)
        tokens = self.embedding(torch.cat([observations[..., None], places], dim=-1))
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(dim=1)


class Branches(BaseFeaturesExtractor):
    """Two branches, added; what is done to the second one is the fault."""

    def __init__(self, space: Any, fault: str | None = None) -> None:
        super().__init__(space, WIDTH)
        self.main = nn.Linear(space.shape[0], WIDTH)
        self.side = nn.Linear(space.shape[0], WIDTH).requires_grad_(fault != "frozen")
        self.fault = fault

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        side = self.side(observations)
        if self.fault == "detached":
            side = side.detach()
        if self.fault == "multiplied by 0":
            side = 0 * side
        return torch.tanh(self.main(observations) + side)


def recorded(extractor: type, **options: Any) -> Training:
    """A DQN with an extractor of the user's."""
    policy = {"features_extractor_class": extractor, "features_extractor_kwargs": options}
    # ReLU would be dead by itself on features that hardly differ from row to row.
    policy["activation_fn"] = nn.Tanh
    return Training(is_recorded=True, policy=policy)


def branches(fault: str) -> Truth:
    """A branch that never learns."""
    return Truth(
        name=f"branch {fault}",
        made=recorded(Branches, fault=fault),
        settings=TRUSTED,
        twin="two branches",
        supported=NEVER,
        words={"never-trained": "features_extractor.side"},
    )


UNLEARNED = (
    Truth(
        name="key bias of attention",
        made=recorded(Attending),
        settings=TRUSTED,
        twin="two branches",
        supported=EXPECTED,
        words={"expected-zeros": "are key bias"},
    ),
    Truth(
        name="actions never taken",
        made=Training(num_actions=40, options=FEW_TAKEN),
        twin="healthy DQN",
        supported=EXPECTED,
        words={"expected-zeros": "were never taken in the batch"},
    ),
    Truth(name="two branches", made=recorded(Branches), settings=TRUSTED),
    branches("frozen"),
    branches("detached"),
    branches("multiplied by 0"),
    Truth(
        name="dead from the start",
        made=Training(at_first=negative_biases),
        twin="healthy DQN",
        supported=DEAD | NEVER,
    ),
    Truth(
        name="dead from the start, AdamW decays",
        made=Training(
            at_first=negative_biases,
            policy={"optimizer_class": torch.optim.AdamW, "optimizer_kwargs": DECAY},
        ),
        twin="healthy DQN",
        supported=DEAD | NEVER,
    ),
    Truth(
        name="dead from the start, Adam decays by L2",
        made=Training(at_first=negative_biases, policy={"optimizer_kwargs": DECAY}),
        twin="dead from the start, AdamW decays",
        supported=DEAD,
        untestable=NEVER,
        words={"never-trained": "weight decay 0.01 is added to the gradient"},
    ),
    Truth(
        name="healthy, Adam decays by L2",
        made=Training(policy={"optimizer_kwargs": DECAY}),
        untestable=NEVER,
    ),
)
