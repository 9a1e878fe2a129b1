"""Whether the observations of a replay buffer are those that a checkpoint's policy was made for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.recompute.networks import Mismatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradscope.recompute.inputs import Space, Training
    from gradscope.records import Normalizer, Ring

    Arrays = Mapping[str, NDArray[Any]]

UNKNOWN: Final = "nothing tells whether the run was normalised; no VecNormalize file belongs to it"
ANOTHER: Final = "the buffer's newest rows are not the checkpoint's: it is of another step or another run"
AHEAD: Final = (
    "the run used VecNormalize, and its file is missing (save_vecnormalize=True writes it), "
    "or the checkpoint was saved one step after this buffer, as after learn(): save a buffer with it"
)
LEAST_MOVE: Final = 0.01
MOVES: Final = 20.0
"""Of a normalised observation in one step: at most this over the number of steps (measured: 3.5)."""
_NUMBERS: Final = ("Discrete", "MultiDiscrete")


def check_observations(training: Training, ring: Ring) -> None:
    """Keys, shapes and types are those of the checkpoint's space, numbers of choices lie within it.

    Raises:
        Mismatch: they are not, or the space is not known.
    """
    space = training.space
    if space is None:
        raise Mismatch(f"observations of {training.observation_space} are not recomputed")
    following = ring.next_observations
    if following is None and not ring.is_shared:
        raise Mismatch("the buffer lacks next observations")
    spaces = space.entries if space.kind == "Dict" else {"": space}
    for arrays in (ring.observations, *([following] if following is not None else [])):
        if set(arrays) != set(spaces):
            raise Mismatch(f"the buffer's observations have the keys {sorted(arrays)}, not {sorted(spaces)}")
        for key, each in spaces.items():
            _check_array(arrays[key], each, key, ring)


def _check_array(array: NDArray[Any], space: Space, key: str, ring: Ring) -> None:
    name = f"observations of {key!r}" if key else "observations"
    there, wanted = (array.dtype.name, array.shape[2:]), (space.dtype, space.shape)
    if there != wanted or array.dtype.kind not in "biuf" or not array[:1].size:
        raise Mismatch(
            f"the buffer's {name} are {there[0]} {there[1]}, the checkpoint's {wanted[0]} {wanted[1]}"
        )
    if space.kind not in _NUMBERS:
        return
    valid = array if ring.is_full else array[: ring.position]
    if valid.size and ((valid < 0) | (valid >= np.array(space.num_values))).any():
        raise Mismatch(f"the buffer's {name} are not among the {space.num_values} values of the space")


def check_originals(training: Training, ring: Ring, normalizer: Normalizer | None = None) -> str | None:
    """A note where checkpoint, buffer and VecNormalize file may not belong together.

    SB3 keeps the newest original observations. Without VecNormalize they are those of the newest row;
    with it, those that follow it (but where the episode has just ended, then the next one's first).

    Raises:
        Mismatch: the run was normalised and the file is missing, or it was not and there is one.
    """
    assert ring.dones is not None
    newest, following = (ring.position - 1) % len(ring.dones), ring.position % len(ring.dones)
    there = _row(ring.observations, newest)
    original = _fitting(training.last_original_observations, there)
    if original is None:
        return UNKNOWN
    if ring.is_shared or ring.next_observations is None:
        ahead = _row(ring.observations, following)
    else:
        ahead = _row(ring.next_observations, newest)
    is_newest, is_ahead = _same(original, there), _same(original, ahead)
    if normalizer is not None:
        if is_newest.all() and not is_ahead.any():
            raise Mismatch(f"the run did not use VecNormalize: {normalizer.source.name} is of another run")
        is_known = is_ahead.any() or ring.dones[newest].all()
        return _foreign(training, original, normalizer) if is_known else ANOTHER
    if is_newest.all():
        # Observations that do not change tell nothing.
        return UNKNOWN if is_ahead.all() else None
    if is_ahead.any():
        raise Mismatch(AHEAD)
    if ring.dones[newest].all():
        raise Mismatch("it cannot be told whether the run used VecNormalize, and there is no such file")
    return ANOTHER


def _foreign(training: Training, original: Arrays, normalizer: Normalizer) -> str | None:
    """A note where the file's statistics do not give the observations that the checkpoint's network saw.

    The checkpoint's were normalised one step before the file was written: the mean has since moved by
    about one in as many parts as there were steps.
    """
    seen = _fitting(training.last_observations, original)
    steps = training.settings.get("num_timesteps")
    if seen is None or not normalizer.norm_observations or not isinstance(steps, int):
        return None
    allowed = max(LEAST_MOVE, MOVES / max(steps, 1))
    for key in normalizer.mean:
        if key not in original:
            continue
        deviation = np.sqrt(normalizer.var[key] + normalizer.epsilon)
        expected = np.clip(
            (original[key] - normalizer.mean[key]) / deviation, -normalizer.clip, normalizer.clip
        )
        difference = np.abs(expected - seen[key]).max(initial=0)
        if not difference <= allowed * max(1.0, np.abs(expected).max(initial=0)):
            return (
                f"{normalizer.source.name} does not give the observations that the checkpoint last saw "
                f"(they differ by {difference:.2g}): it is of another step or another run"
            )
    return None


def _row(arrays: Arrays, place: int) -> Arrays:
    return {key: array[place] for key, array in arrays.items()}


def _fitting(original: Arrays | None, row: Arrays) -> Arrays | None:
    """In the buffer's shapes: numbers of a Discrete space lack a dimension."""
    if original is None or {key: each.size for key, each in original.items()} != {
        key: each.size for key, each in row.items()
    }:
        return None
    return {key: each.reshape(row[key].shape) for key, each in original.items()}


def _same(one: Arrays, other: Arrays) -> NDArray[np.bool_]:
    """By environment, whether all observations are equal."""
    equal = np.ones(len(next(iter(one.values()))), np.bool_)
    for key, array in one.items():
        equal &= (array == other[key]).reshape(len(array), -1).all(1)
    return equal
