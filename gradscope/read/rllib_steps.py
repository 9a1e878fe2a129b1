"""The step and the algorithm of an RLlib checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from gradscope.read.checked_json import number, table
from gradscope.read.file_bytes import Malformed
from gradscope.read.pickle_stubs import Global
from gradscope.read.safe_pickle import unpickled
from gradscope.read.step_name import KnownStep, known_step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.read.file_bytes import Section

STEPS: Final = "num_env_steps_sampled_lifetime"
ITERATION: Final = "training_iteration"
_OLD_STEPS: Final = "num_env_steps_sampled"
_MAX_CLASS_BYTES: Final = 8 << 20


def known_steps(folder: Path, state: Mapping[str, object]) -> KnownStep:
    """Environment steps over the whole training, else training iterations; ``state`` is algorithm_state.pkl.

    The folder's number counts checkpoints: it is believed where the content says nothing.
    """
    content = {STEPS: _lifetime(state), _OLD_STEPS: table(state.get("counters")).get(_OLD_STEPS)}
    content[ITERATION] = state.get(ITERATION)
    told = {key: value for key, value in content.items() if value is not None}
    return known_step(Path("rllib") if told else folder, told)


def algorithm_name(state: Mapping[str, object], file: Section | None) -> str | None:
    """Name of the algorithm's class, from the state or the file that holds the class; it is not loaded."""
    found = state.get("algorithm_class")
    if not isinstance(found, Global) and file is not None and file.size <= _MAX_CLASS_BYTES:
        try:
            found = table(unpickled(file.content(), {}).value).get("class")
        except Malformed:
            return None
    return found.name[:100] if isinstance(found, Global) else None


def _lifetime(state: Mapping[str, object]) -> float | None:
    """A metric that only grows; 2.60 keeps its sum, earlier ones a list of one value."""
    stats = table(table(state.get("metrics_logger")).get("stats"))
    metric = table(stats.get(f"env_runners--{STEPS}"))
    values = metric.get("values")
    last = values[-1] if isinstance(values, list) and values else None
    return number(metric.get("lifetime_sum", last))
