from __future__ import annotations

import numpy as np
import pytest

from gradscope.records import Layer, LayerGradient, Origin, Status
from gradscope.run.layer import layer_gradient, stored_counts
from gradscope.settings import Settings


def measured(values: np.ndarray, **changes: object) -> LayerGradient:
    known = {"name": "a.weight", "shape": values.shape, "dtype": "float32", "origin": Origin.STORED}
    layer = Layer(**(known | {"gradient": values} | changes))  # type: ignore[arg-type]
    return layer_gradient(layer, stored_counts(layer, Settings()), Settings())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_with_values_that_are_not_finite_is_never_green(bad: float) -> None:
    gradient = np.ones((10, 10), dtype=np.float32)
    gradient[0, 0] = bad
    layer = measured(gradient)
    assert layer.status is Status.UNKNOWN
    assert layer.num_nonfinite == 1
    assert "1 of 100" in layer.reasons["status"]
    gradient[5:] = 0
    assert measured(gradient).status is Status.COLLAPSE


def test_every_null_has_its_reason() -> None:
    for layer in (
        measured(np.ones((3, 4), dtype=np.float32)),
        measured(np.ones((3, 4), dtype=np.float32), gradient=None),
        measured(np.ones((3, 4), dtype=np.float32), shape=(4, 3)),
        measured(np.full((3, 4), np.nan, dtype=np.float32)),
    ):
        nulls = {name for name, value in vars(layer).items() if value is None}
        assert nulls <= set(layer.reasons)


def test_a_gradient_of_another_shape_is_not_counted() -> None:
    layer = measured(np.zeros((3, 4), dtype=np.float32), shape=(4, 3))
    assert layer.num_zero is None
    assert "[3, 4]" in layer.reasons["num_zero"]
