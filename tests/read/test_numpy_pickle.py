"""Arrays as numpy pickles them, also those that do not lie in order of their axes."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
import pytest

from gradscope.read.file_bytes import Malformed
from gradscope.read.numpy_pickle import NUMPY_TABLE, as_array
from gradscope.read.safe_pickle import unpickled

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = np.arange(2 * 4 * 5 * 3, dtype=np.int16).reshape(2, 4, 5, 3)
ARRAYS = {
    "in order": BLOCK,
    "turned images": np.transpose(BLOCK, (0, 3, 1, 2)),
    "reversed": BLOCK.T,
    "a part": BLOCK[:, 1:3],
    "every second": BLOCK[::2, :, ::-1],
    "nothing": BLOCK[:0].transpose(0, 3, 1, 2),
    "one number": np.array(3, np.float32),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_is_what_was_pickled(name: str, protocol: int) -> None:
    found = as_array(unpickled(cloudpickle.dumps(ARRAYS[name], protocol=protocol), NUMPY_TABLE).value)
    assert found is not None
    assert found.dtype == ARRAYS[name].dtype
    np.testing.assert_array_equal(found, ARRAYS[name])


class Turned:
    """Pickles as numpy 2.3 pickles a transposed array, with axes of our choice."""

    def __init__(self, axes: object, shape: tuple[int, ...] = (2, 3)) -> None:
        self.axes, self.shape = axes, shape

    def __reduce__(self) -> tuple[Any, ...]:
        from numpy._core.numeric import _frombuffer  # noqa: PLC0415

        return _frombuffer, (bytearray(24), np.dtype(np.int32), self.shape, "K", self.axes)


def turned(axes: object) -> NDArray[Any] | None:
    return as_array(unpickled(pickle.dumps(Turned(axes), protocol=5), NUMPY_TABLE).value)


def test_axes_in_any_order() -> None:
    found = turned((1, 0))
    assert found is not None
    assert found.shape == (3, 2)


@pytest.mark.parametrize("axes", [(0,), (0, 0), (0, 2), (1, -1), (0, 1, 2), "01", (0, "1"), 5, None], ids=str)
def test_axes_that_are_none(axes: object) -> None:
    with pytest.raises(Malformed):
        turned(axes)
