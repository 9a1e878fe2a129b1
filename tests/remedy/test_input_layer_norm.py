"""Each slice against the formula; one norm over the whole bar does not cure."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradscope.errors import UsageError
from gradscope.remedy import InputLayerNorm

torch.set_num_threads(1)
SLICES = {"position": (1, 4)}


def rows(num: int = 6, *, width: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(num, width, generator=torch.Generator().manual_seed(seed))


def normalised(values: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    values = values.astype(np.float64)
    away = values - values.mean(axis=-1, keepdims=True)
    return away / np.sqrt((away**2).mean(axis=-1, keepdims=True) + eps)


@given(st.floats(0.1, 1e4), st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_every_slice_is_normalised_for_itself(size: float, seed: int) -> None:
    values = rows(seed=seed)
    values[:, [1, 4]] *= size
    out = InputLayerNorm(6, SLICES)(values).detach().numpy()
    for columns in ([1, 4], [0, 2, 3, 5]):
        np.testing.assert_allclose(
            out[:, columns], normalised(values[:, columns].numpy()), rtol=1e-3, atol=1e-4
        )


def test_without_slices_it_is_the_layer_norm_of_torch() -> None:
    values, ours, theirs = rows(), InputLayerNorm(6), torch.nn.LayerNorm(6)
    with torch.no_grad():
        for module in (ours, theirs):
            module.weight.copy_(torch.arange(6.0))
            module.bias.copy_(torch.arange(6.0) / 10)
    torch.testing.assert_close(ours(values), theirs(values))


def test_flat_observations_are_bars() -> None:
    values = rows(8)
    plain, flat = InputLayerNorm(6, SLICES), InputLayerNorm(6, SLICES, sequence_length=4)
    assert torch.equal(flat(values.reshape(2, 24)).reshape(8, 6), plain(values))
    assert torch.equal(plain(values.reshape(2, 4, 6)).reshape(8, 6), plain(values))


def test_a_slice_at_rest_is_the_bias() -> None:
    module, values = InputLayerNorm(6, SLICES), rows()
    values[:, [1, 4]] = 0
    assert (module(values)[:, [1, 4]] == 0).all()
    torch.nn.init.constant_(module.bias, 0.3)
    assert (module(values)[:, [1, 4]] == torch.tensor(0.3)).all()


def test_nan_stays_in_its_slice() -> None:
    values = rows()
    values[0, 4] = torch.nan
    out = InputLayerNorm(6, SLICES)(values)
    assert out[0].isnan().tolist() == [False, True, False, False, True, False]
    assert not out[1:].isnan().any()


def market_gradient_share(module: torch.nn.Module, size: float) -> float:
    """Share of the first layer's gradient norm that market columns get once the position is ``size``."""
    values = rows(64)
    values[:, 4] = size
    torch.manual_seed(0)
    layer = torch.nn.Linear(6, 8)
    layer(module(values)).square().sum().backward()
    assert layer.weight.grad is not None
    norms = layer.weight.grad.norm(dim=0)
    return float(norms[[0, 2, 3, 5]].norm() / norms.norm())


def test_slices_keep_the_market_learning_and_one_norm_over_the_bar_does_not() -> None:
    assert market_gradient_share(InputLayerNorm(6, SLICES), 1e4) > 0.5
    assert market_gradient_share(torch.nn.Identity(), 1e4) < 1e-3
    # The market columns become copies of one constant, -1/sqrt(5): what they say is lost.
    values = rows(64)
    values[:, 4] = 1e4
    out = InputLayerNorm(6)(values)[:, [0, 1, 2, 3, 5]]
    assert (out + 5**-0.5).abs().max() < 1e-3
    assert InputLayerNorm(6, SLICES)(values)[:, [0, 2, 3, 5]].std() > 0.9


def test_the_size_of_a_slice_is_lost() -> None:
    values = rows()
    module = InputLayerNorm(6, SLICES, eps=0.0)
    larger = values.clone()
    larger[:, [1, 4]] *= 1000
    torch.testing.assert_close(module(larger), module(values))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_type_stays_and_half_floats_do_not_overflow(dtype: torch.dtype) -> None:
    values = (rows() * 2000).to(dtype)
    module = InputLayerNorm(6, SLICES)
    out = module(values)
    assert out.dtype == dtype
    half = torch.float16 if dtype == torch.float16 else torch.bfloat16
    with torch.autocast("cpu", dtype=half):
        assert torch.equal(module(values), out)
    torch.testing.assert_close(out.double(), module(values.double()).double(), rtol=1e-2, atol=1e-2)


def test_state_dict_pickle_copy_and_compile() -> None:
    module, values = InputLayerNorm(6, SLICES, sequence_length=2), rows(4, width=12)
    torch.nn.init.normal_(module.weight)
    assert set(module.state_dict()) == {"weight", "bias"}
    assert not InputLayerNorm(6, SLICES, affine=False).state_dict()
    loaded = InputLayerNorm(6, SLICES, sequence_length=2)
    loaded.load_state_dict(module.state_dict())
    compiled = torch.compile(copy.deepcopy(module), fullgraph=True, backend="aot_eager")
    for twin in (loaded, pickle.loads(pickle.dumps(module)), copy.deepcopy(module), compiled):
        torch.testing.assert_close(twin(values), module(values))


def test_a_slice_of_one_column_is_refused_as_it_would_always_be_zero() -> None:
    with pytest.raises(UsageError, match="single column"):
        InputLayerNorm(6, {"position": 5})
    with pytest.raises(UsageError, match="not 1 x 6"):
        InputLayerNorm(6)(rows(width=5))
