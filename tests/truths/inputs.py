"""What inputs do: too large, never moving, and moving no more behind a VecNormalize that hides it."""

from __future__ import annotations

from typing import Any

import torch
from truths.truth import Truth
from truths.worlds import NUM_MARKET, SAVE_EVERY, Training

SHUT = SAVE_EVERY - 10
"""Before the last window begins: its buffer holds none of the rows that moved."""
FLAT = frozenset({"flat-input"})


def never_met(model: Any) -> None:
    """Weights of the position columns become what nothing has ever corrected, while these columns rest."""
    with torch.no_grad():
        model.q_net.q_net[0].weight[:48, NUM_MARKET:] = -50


INPUTS = (
    Truth(name="healthy DQN", made=Training()),
    Truth(
        name="positions of size 300",
        made=Training(size=300.0),
        twin="healthy DQN",
        supported=frozenset({"scale-mismatch", "slice-is-cause"}),
        also=frozenset({"dead-units"}),
    ),
    Truth(name="positions as large as the market", made=Training(size=1.001)),
    Truth(
        name="a regime the layer never met",
        made=Training(size=1.001, plant=never_met),
        twin="positions as large as the market",
        supported=frozenset({"domain-shift", "slice-is-cause"}),
        also=frozenset({"dead-units"}),
    ),
    Truth(
        name="inputs always 0",
        made=Training(constant=0.0),
        twin="healthy DQN",
        supported=FLAT | {"never-trained"},
    ),
    Truth(name="inputs always 0.5", made=Training(constant=0.5), twin="healthy DQN", supported=FLAT),
    Truth(name="healthy, VecNormalize", made=Training(is_normalised=True, constant_from=SHUT)),
    Truth(
        name="inputs always 0, VecNormalize",
        made=Training(is_normalised=True, constant=0.0),
        twin="healthy, VecNormalize",
        supported=FLAT | {"never-trained"},
    ),
    Truth(
        name="inputs 0 from now on, VecNormalize",
        made=Training(is_normalised=True, constant=0.0, constant_from=SHUT),
        twin="healthy, VecNormalize",
        supported=FLAT,
        words={"flat-input": "constant without being 0"},
    ),
)
