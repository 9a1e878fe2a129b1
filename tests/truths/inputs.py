"""What inputs do: too large, never moving, and moving no more behind a VecNormalize that hides it."""

from __future__ import annotations

from truths.truth import Truth
from truths.worlds import SAVE_EVERY, Training

SHUT = SAVE_EVERY - 10
"""Before the last window begins: its buffer holds none of the rows that moved."""
FLAT = frozenset({"flat-input"})

INPUTS = (
    Truth(name="healthy DQN", made=Training()),
    Truth(
        name="positions of size 300",
        made=Training(size=300.0),
        twin="healthy DQN",
        supported=frozenset({"scale-mismatch", "slice-is-cause"}),
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
