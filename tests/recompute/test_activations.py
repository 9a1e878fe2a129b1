"""What is seen of a forward pass, against modules of torch and loops over their outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from gradscope.measure.units import unit_activity
from gradscope.recompute.activations import own_weights, rows_that_count, watched, watching
from gradscope.recompute.unit_tally import ELSEWHERE, MAX_SAMPLE_ROWS, NOWHERE, Units

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

torch.set_num_threads(1)


def seen(model: nn.Module, *inputs: torch.Tensor, call: Callable[..., Any] | None = None) -> Units:
    """Units of one forward pass for each input."""

    def passes() -> Iterator[Any]:
        for each in inputs:
            own_weights(dict(model.named_parameters()))
            with watching():
                found = (call or model)(each)
            yield found

    units = Units()
    assert len(list(watched(passes(), units))) == len(inputs)
    return units


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sequential(*modules: nn.Module) -> nn.Sequential:
    torch.manual_seed(4)
    for module in modules:
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return nn.Sequential(*modules)


ACTIVATIONS = [
    *(nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.LeakyReLU(), nn.ELU(), nn.SELU(), nn.CELU(), nn.GELU()),
    *(nn.SiLU(), nn.Mish(), nn.Softplus(), nn.Softsign(), nn.ReLU6(), nn.Hardtanh(), nn.Hardswish()),
    *(
        nn.Hardsigmoid(),
        nn.PReLU(),
        nn.ReLU(inplace=True),
        nn.ELU(inplace=True),
        nn.LeakyReLU(0.1, inplace=True),
    ),
    *(nn.SiLU(inplace=True), nn.Hardtanh(inplace=True)),
]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_counts_of_every_activation_as_autograd_gives_them(activation: nn.Module) -> None:
    """Inputs from -200 to 200: every way of being flat is met."""
    linear = nn.Linear(1, 5)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0], [-1.0], [0.0], [0.0], [0.05]]))
        linear.bias.copy_(torch.tensor([100.0, 100.0, 150.0, -150.0, 0.0]))
    rows = torch.linspace(-100, 100, 41).reshape(-1, 1)
    tally = seen(nn.Sequential(linear, activation), rows).tallies["0.weight"]
    inputs = linear(rows).detach().requires_grad_()
    outputs = activation(inputs * 1)
    (slopes,) = torch.autograd.grad(outputs.sum(), inputs)
    assert tally.activation == type(activation).__name__
    assert tally.is_flat is not None
    assert tally.num_saturated is not None
    for unit in range(5):
        pairs = list(zip(outputs[:, unit].tolist(), slopes[:, unit].tolist(), strict=True))
        assert (tally.magnitude[unit] == 0) == all(y == 0 for y, _ in pairs)
        assert tally.is_flat[unit] == all(s == 0 for _, s in pairs)
        assert tally.num_saturated[unit] == sum(s == 0 and y != 0 for y, s in pairs)
        assert tally.magnitude[unit] == pytest.approx(sum(abs(y) for y, _ in pairs))
    assert tally.sample.tobytes() == outputs.detach().numpy().tobytes()


@pytest.mark.parametrize(("size", "is_flat"), [(9.0, False), (9.1, True)])
def test_tanh_is_flat_where_its_slope_is_exactly_0_in_float32(size: float, *, is_flat: bool) -> None:
    tally = seen(nn.Sequential(planted(size), nn.Tanh()), torch.ones(3, 1)).tallies["0.weight"]
    assert unit_activity(tally).saturated == ((0,) if is_flat else ())


@pytest.mark.parametrize(("size", "kind"), [(16.0, ""), (18.0, "saturated"), (-80.0, ""), (-110.0, "dead")])
def test_sigmoid_is_flat_on_the_positive_side_and_far_out_on_the_other(size: float, kind: str) -> None:
    tally = seen(nn.Sequential(planted(size), nn.Sigmoid()), torch.ones(3, 1)).tallies["0.weight"]
    found = unit_activity(tally)
    assert (found.dead, found.saturated) == (
        (0,) if kind == "dead" else (),
        (0,) if kind == "saturated" else (),
    )


def planted(size: float) -> nn.Linear:
    linear = nn.Linear(1, 1)
    nn.init.constant_(linear.weight, 0)
    nn.init.constant_(linear.bias, size)
    return linear


def test_planted_faults_are_told_apart() -> None:
    model = sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 2))
    first, second, last = model[0], model[2], model[4]
    with torch.no_grad():
        first.bias[3] = -100
        second.bias[2] = 40
        last.weight[:, 5] = 0
        second.weight[6], second.bias[6] = second.weight[1], second.bias[1]
    faulty, healthy = (
        {name: unit_activity(each) for name, each in seen(one, noise(300, 6)).tallies.items()}
        for one in (
            model,
            sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 2)),
        )
    )
    assert faulty["0.weight"].dead == (3,)
    assert (faulty["2.weight"].saturated, faulty["2.weight"].outgoing_zero) == ((2,), (5,))
    assert faulty["2.weight"].num_cloned == 1
    for found in healthy.values():
        assert (found.dead, found.saturated, found.outgoing_zero, found.num_cloned) == ((), (), (), 0)
        assert not found.saturated_fraction
        assert found.effective_rank is not None
    assert healthy["0.weight"].effective_rank > faulty["0.weight"].effective_rank > 1
    assert (healthy["4.weight"].activation, healthy["0.weight"].activation) == (None, "ReLU")
    assert healthy["4.weight"].reasons["outgoing_zero"] == NOWHERE


def test_batches_add_up_and_only_the_first_is_sampled() -> None:
    model = sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    both, whole = (
        seen(model, noise(20, 3), noise(9, 3, seed=1)),
        seen(model, torch.cat([noise(20, 3), noise(9, 3, seed=1)])),
    )
    for name, each in both.tallies.items():
        assert each.num_rows == whole.tallies[name].num_rows == 29
        assert np.allclose(each.magnitude, whole.tallies[name].magnitude)
        assert len(each.sample) == 20
    many = seen(model, noise(3 * MAX_SAMPLE_ROWS, 3)).tallies["0.weight"]
    assert many.sample.shape == (MAX_SAMPLE_ROWS, 4)
    assert many.num_rows == 3 * MAX_SAMPLE_ROWS


class Functional(nn.Module):
    """Functions instead of modules, a layer used twice, an attention, a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.norm, self.last = nn.Linear(3, 6), nn.LayerNorm(6), nn.Linear(6, 2)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.both = nn.Linear(2, 2)

    def forward(self, bars: torch.Tensor) -> torch.Tensor:
        lifted = self.norm(self.lift(bars)).relu()
        attended, _ = self.attention(lifted, lifted, lifted)
        pooled = (lifted + attended).mean(1)
        return torch.tanh(self.both(torch.tanh(self.both(torch.tanh(self.last(pooled))))))


def test_functions_norms_residuals_and_layers_used_twice() -> None:
    torch.manual_seed(0)
    model = Functional()
    tallies = seen(model, noise(10, 4, 3)).tallies
    assert {name: each.activation for name, each in tallies.items()} == {
        "lift.weight": "ReLU",
        "last.weight": "Tanh",
        "both.weight": "Tanh",
    }
    assert tallies["lift.weight"].num_rows == 40
    assert tallies["both.weight"].num_rows == 20
    assert tallies["lift.weight"].outgoing_reason == ELSEWHERE
    assert tallies["last.weight"].outgoing_reason == ""
    expected = model.norm(model.lift(noise(10, 4, 3))).relu().reshape(-1, 6).detach().numpy()
    assert tallies["lift.weight"].sample.tobytes() == expected.tobytes()


def test_a_sum_before_the_activation_is_no_layer_s_own() -> None:
    first, second = nn.Linear(2, 3), nn.Linear(2, 3)
    model = nn.ModuleList([first, second])
    tallies = seen(model, noise(5, 2), call=lambda rows: torch.tanh(first(rows) + second(rows))).tallies
    assert [each.activation for each in tallies.values()] == [None, None]
    assert {each.outgoing_reason for each in tallies.values()} == {ELSEWHERE}


def test_weights_behind_a_unit_through_convolutions_pooling_flattening_and_joining() -> None:
    eyes = sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.MaxPool2d(2)
    )
    head, other = nn.Linear(5 * 3 * 3 + 2, 6), nn.Linear(5 * 3 * 3 + 2, 6)
    model = nn.ModuleList([eyes, head, other])
    with torch.no_grad():
        eyes[3].weight[:, 2] = 0
        for each, unit in ((head, 1), (head, 4), (other, 4), (other, 0)):
            each.weight[:, 2 + unit * 9 : 2 + (unit + 1) * 9] = 0

    def call(images: torch.Tensor) -> Any:
        joined = torch.cat([noise(len(images), 2), eyes(images).flatten(1)], dim=1)
        return head(joined), other(joined)

    tallies = seen(model, noise(3, 3, 10, 10), call=call).tallies
    first, second = tallies["0.0.weight"], tallies["0.3.weight"]
    assert unit_activity(first).outgoing_zero == (2,)
    assert unit_activity(second).outgoing_zero == (4,)
    assert (first.num_rows, second.num_rows) == (3 * 64, 3 * 36)
    assert (first.activation, second.activation) == ("ReLU", "ReLU")
    assert first.sample.shape == (192, 4)


def test_flattened_bars_keep_their_units() -> None:
    lift, head = nn.Linear(3, 4), nn.Linear(5 * 4, 2)
    with torch.no_grad():
        head.weight.reshape(2, 5, 4)[:, :, 1] = 0
    model = nn.ModuleList([lift, head])
    tallies = seen(model, noise(6, 5, 3), call=lambda bars: head(torch.relu(lift(bars)).flatten(1))).tallies
    assert unit_activity(tallies["0.weight"]).outgoing_zero == (1,)


def test_only_passes_with_gradients_and_these_very_weights_count() -> None:
    model = sequential(nn.Linear(3, 4), nn.ReLU())
    target = sequential(nn.Linear(3, 4), nn.ReLU())

    def call(rows: torch.Tensor) -> Any:
        with torch.no_grad():
            model(rows + 1)
        target(rows)
        return model(rows)

    units = seen(model, noise(7, 3), call=call)
    assert {name: each.num_rows for name, each in units.tallies.items()} == {"0.weight": 7}
    assert units.tallies["0.weight"].sample.tobytes() == model(noise(7, 3)).detach().numpy().tobytes()


def test_nobody_watching_sees_nothing_and_a_failure_leaves_nothing_behind() -> None:
    model = sequential(nn.Linear(3, 4), nn.ReLU())

    def failing(rows: torch.Tensor) -> Any:
        raise ValueError(str(model(rows).shape))

    with pytest.raises(ValueError, match="Size"):
        seen(model, noise(2, 3), call=failing)
    assert not torch.overrides._get_current_function_mode_stack()
    own_weights(dict(model.named_parameters()))
    with watching():
        assert not torch.overrides._get_current_function_mode_stack()
        model(noise(2, 3))
    rows_that_count(torch.ones(2))


def test_what_cannot_be_followed_is_a_reason_and_breaks_nothing() -> None:
    """Within vmap no number can be looked at."""
    model = sequential(nn.Linear(3, 4), nn.Tanh())
    found: list[torch.Tensor] = []
    units = seen(model, noise(5, 2, 3), call=lambda rows: found.append(torch.func.vmap(model)(rows)))
    assert units.problem is not None
    assert "vmap" in units.problem
    assert torch.equal(found[0], torch.func.vmap(model)(noise(5, 2, 3)))


def test_a_layer_that_comes_later_and_a_vector_as_weight() -> None:
    model = nn.ModuleDict({"early": nn.Linear(3, 3), "late": nn.Linear(3, 3)})
    model.register_parameter("vector", nn.Parameter(torch.ones(3)))

    def call(rows: torch.Tensor) -> Any:
        rows = torch.relu(model["early"](rows))
        rows = torch.relu(model["late"](rows)) if len(rows) == 4 else rows
        return torch.nn.functional.linear(rows, model.vector)

    units = seen(model, noise(6, 3), noise(4, 3), call=call)
    assert units.problem is None
    assert {name: each.num_rows for name, each in units.tallies.items()} == {
        "early.weight": 10,
        "late.weight": 4,
    }
    assert units.tallies["late.weight"].outgoing_reason == ELSEWHERE
    assert len(units.tallies["late.weight"].sample) == 4


@pytest.mark.parametrize("maker", [nn.LSTM, nn.GRU, nn.RNN])
def test_hidden_outputs_of_recurrent_layers(maker: Any) -> None:
    reader = maker(3, 5, num_layers=2, batch_first=True)
    tally = seen(reader, noise(4, 6, 3)).tallies["weight_ih_l1"]
    outputs, _ = reader(noise(4, 6, 3))
    assert tally.activation == maker.__name__
    assert tally.sample.tobytes() == outputs.detach().reshape(-1, 5).numpy().tobytes()
    assert "dead" in unit_activity(tally).reasons


def test_padding_does_not_count() -> None:
    model = sequential(nn.Linear(3, 4), nn.Tanh())
    mask = torch.tensor([1, 1, 0, 1, 0, 0]) > 0

    def call(rows: torch.Tensor) -> Any:
        rows_that_count(mask)
        return model(rows)

    tally = seen(model, noise(6, 3), call=call).tallies["0.weight"]
    assert tally.num_rows == 3
    assert tally.sample.tobytes() == model(noise(6, 3))[mask].detach().numpy().tobytes()


def test_outputs_that_are_not_finite_and_half_precision() -> None:
    model = sequential(nn.Linear(2, 3), nn.ReLU())
    with torch.no_grad():
        model[0].bias[1] = torch.nan
    found = unit_activity(seen(model, noise(9, 2)).tallies["0.weight"])
    assert "not finite" in found.reasons["dormant_fractions"]
    assert 1 not in found.dead
    half = sequential(nn.Linear(2, 3), nn.ReLU()).to(torch.bfloat16)
    assert seen(half, noise(9, 2).bfloat16()).tallies["0.weight"].sample.dtype == np.float32


def test_gradients_are_the_same_bits() -> None:
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Linear(4, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 1)
    )

    def gradients(*, watches: bool) -> list[bytes]:
        torch.manual_seed(7)
        model.zero_grad()

        def call(rows: torch.Tensor) -> Any:
            model(rows).square().mean().backward()

        if watches:
            assert seen(model, noise(5, 3, 4), call=call).tallies["1.linear1.weight"].activation == "ReLU"
        else:
            call(noise(5, 3, 4))
        return [each.grad.numpy().tobytes() for each in model.parameters() if each.grad is not None]

    assert gradients(watches=True) == gradients(watches=False)
