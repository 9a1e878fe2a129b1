"""Units of recomputed snapshots against hooks on the library's own modules, in its own train()."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from makers import sb3_ring
from recompute.library import Case, Files, loaded, trained
from recompute.rollout_library import OnPolicyCase, OnPolicyFiles, trained_on_policy
from recompute.user_agents import importable, trusted, truth
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import set_random_seed

from gradscope.measure.units import unit_activity
from gradscope.read.sb3_blobs import sb3_blobs
from gradscope.read.sb3_training import sb3_training
from gradscope.recompute import Recomputed, recompute_gradients
from gradscope.recompute.activations import watched
from gradscope.recompute.trusted.model import recompute_model
from gradscope.recompute.trusted.user_code import UserCode
from gradscope.recompute.unit_tally import Units

if TYPE_CHECKING:
    from gradscope.records import UnitActivity

Array = np.ndarray[Any, Any]
SAMPLES = Path(__file__).parents[2] / "sample_checkpoints"
IMAGES = spaces.Box(0, 255, (3, 36, 36), np.uint8)
KINDS = (torch.nn.ReLU, torch.nn.Tanh)
CASES = [
    Case(algorithm="SAC"),
    Case(algorithm="TD3"),
    Case(algorithm="TQC", policy_kwargs={"net_arch": [16, 8], "share_features_extractor": True}),
    Case(algorithm="DQN", policy="CnnPolicy", space=IMAGES, policy_kwargs={"net_arch": [8]}),
    Case(algorithm="QRDQN", policy_kwargs={"net_arch": [16, 8], "activation_fn": torch.nn.Tanh}),
]
ON_POLICY = [
    OnPolicyCase(algorithm="PPO"),
    OnPolicyCase(algorithm="A2C", policy_kwargs={"net_arch": [8], "activation_fn": torch.nn.ReLU}),
    OnPolicyCase(
        algorithm="RecurrentPPO",
        policy="MlpLstmPolicy",
        policy_kwargs={"net_arch": [8], "lstm_hidden_size": 6},
    ),
]


def named(case: Any) -> str:
    return str(case.algorithm)


def units_of(found: Any) -> Units:
    """Watched; gradients are the same bits as without."""
    units = Units()
    with_units = [each.gradients for each in watched(found.batches(), units)]
    for seen, alone in zip(with_units, found.batches(), strict=True):
        assert list(seen) == list(alone.gradients)
        assert all(seen[name].tobytes() == each.tobytes() for name, each in alone.gradients.items())
    return units


def hooked(policy: Any) -> dict[str, torch.Tensor]:
    """First outputs that carry a gradient, of each activation module, by the weight in front of it."""
    seen: dict[str, torch.Tensor] = {}

    def hook(weight: str) -> Any:
        def look(_: Any, __: Any, outputs: torch.Tensor) -> None:
            if torch.is_grad_enabled():
                seen.setdefault(weight, outputs.detach().clone())

        return look

    for name, each in policy.named_modules():
        if isinstance(each, KINDS) and "target" not in name:
            each.register_forward_hook(hook(weight_before(policy, name)))
    return seen


def weight_before(policy: Any, name: str) -> str:
    """Of the linear layer or convolution that stands last before a module in its Sequential."""
    chain, _, place = name.rpartition(".")
    found = [f"{chain}.{before}.weight" for before in range(int(place))]
    own = policy.state_dict()
    return next(each for each in reversed(found) if each in own and own[each].dim() > 1)


def rows(outputs: torch.Tensor) -> bytes:
    return outputs.movedim(1, -1).reshape(-1, outputs.shape[1]).numpy().tobytes()


@pytest.mark.parametrize("case", CASES, ids=named)
def test_plain_networks_give_what_the_library_s_modules_give(case: Case, tmp_path: Path) -> None:
    checkpoint = trained(case, tmp_path)[-1]
    model = loaded(case, checkpoint)
    expected = hooked(model.policy)
    set_random_seed(5)
    # TD3's actor learns at every second update only.
    model._n_updates = 1
    model.train(gradient_steps=1, batch_size=16)
    tallies = units_of(checkpoint.recomputed()).tallies
    hidden = {name: each for name, each in tallies.items() if each.activation in {"ReLU", "Tanh"}}
    assert len(expected) >= 2
    assert set(hidden) == set(expected)
    for name, outputs in expected.items():
        assert hidden[name].sample.tobytes() == rows(outputs)[: hidden[name].sample.nbytes], name
        assert hidden[name].num_rows == outputs.numel() // outputs.shape[1]


def test_live_modules_with_dropout_and_batch_norm_give_what_they_give_in_train(tmp_path: Path) -> None:
    with importable(tmp_path) as users:
        kwargs = {"net_arch": [8], "features_extractor_class": users.Noisy}
        case = Case(algorithm="SAC", policy_kwargs=kwargs)
        checkpoint = trained(case, tmp_path)[-1]
        model = truth(case, checkpoint)
        expected = hooked(model.policy)
        set_random_seed(5)
        model.train(gradient_steps=1, batch_size=16)
        tallies = units_of(trusted(checkpoint, tmp_path)).tallies
    assert len(expected) == 5
    for name, outputs in expected.items():
        assert tallies[name].sample.tobytes() == rows(outputs), name
        assert tallies[name].num_rows == 16


@pytest.mark.parametrize("case", ON_POLICY, ids=named)
def test_on_policy_networks_give_what_the_library_s_modules_give(case: OnPolicyCase, tmp_path: Path) -> None:
    checkpoint = trained_on_policy(case, tmp_path)
    size = 32 if case.algorithm == "A2C" else 8
    expected, memory = library_pass(checkpoint, size)
    tallies = units_of(checkpoint.recomputed(batch_size=size)).tallies
    hidden = {name for name, each in tallies.items() if each.activation in {"ReLU", "Tanh"}}
    assert hidden == {name for name in expected if not name.startswith("lstm")}
    for name, outputs in expected.items():
        real = outputs if memory is None else outputs[memory]
        assert tallies[name].sample.tobytes() == real.numpy().tobytes(), name
        assert tallies[name].num_rows == len(real) == size


def library_pass(checkpoint: OnPolicyFiles, size: int) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
    """Outputs of the first mini-batch, and which of its rows are no padding."""
    model = checkpoint.case.maker.load(checkpoint.zip, device="cpu")
    model.set_logger(Logger(None, []))
    model.rollout_buffer = copy.deepcopy(checkpoint.buffer)
    model._current_progress_remaining = checkpoint.progress
    masks, get = [], model.rollout_buffer.get

    def noted(batch_size: int | None = None) -> Any:
        for each in get(batch_size):
            masks.append(getattr(each, "mask", None))
            yield each

    model.rollout_buffer.get = noted
    if checkpoint.case.algorithm != "A2C":
        model.batch_size, model.n_epochs = size, 1
    seen = hooked(model.policy)
    steps: list[torch.Tensor] = []
    if hasattr(model.policy, "lstm_actor"):
        model.policy.lstm_actor.register_forward_hook(lambda *given: steps.append(given[2][0].detach()))
    ends: list[int] = []
    model.policy.optimizer.register_step_pre_hook(lambda *_: ends.append(len(steps)))
    set_random_seed(5)
    model.train()
    if not steps:
        return seen, None
    mask = masks[0] > 0
    by_time = torch.cat(steps[: ends[0]])
    # Ours come time by time, the library's sequence by sequence.
    kept = by_time[mask.reshape(by_time.shape[1], -1).T]
    places = torch.nonzero(mask).flatten()
    seen["lstm_actor.weight_ih_l0"] = torch.zeros(len(mask), kept.shape[1])
    seen["lstm_actor.weight_ih_l0"][places] = kept
    return seen, mask


def planted(checkpoint: Files, change: Any) -> dict[str, UnitActivity]:
    """Units after a change of the weights."""
    training = sb3_training(checkpoint.zip)
    weights = {name: np.array(each) for name, each in training.weights.items()}
    change(weights)
    found = recompute_gradients(
        replace(training, weights=weights),
        sb3_ring(checkpoint.ring),
        None,
        batches=2,
        batch_size=48,
        seed=1,
    )
    assert isinstance(found, Recomputed)
    return {name: unit_activity(each) for name, each in units_of(found).tallies.items()}


def test_faults_planted_in_a_real_run_and_its_healthy_twin(tmp_path: Path) -> None:
    checkpoint = trained(Case(algorithm="SAC", policy_kwargs={"net_arch": [16, 12]}), tmp_path)[-1]

    def break_it(weights: dict[str, Array]) -> None:
        weights["critic.qf0.0.bias"][3] = -100
        weights["critic.qf0.2.weight"][:, 5] = 0
        weights["actor.latent_pi.0.weight"][7] = weights["actor.latent_pi.0.weight"][2] * 2
        weights["actor.latent_pi.0.bias"][7] = weights["actor.latent_pi.0.bias"][2] * 2
        for head in ("actor.mu.weight", "actor.log_std.weight"):
            weights[head][:, 4] = 0
        weights["actor.mu.weight"][:, 6] = 0
        weights["actor.log_std.bias"][1] = 50

    before, after = planted(checkpoint, lambda _: None), planted(checkpoint, break_it)
    for name, found in before.items():
        assert (found.saturated, found.outgoing_zero) == ((), ()), name
        assert not found.num_cloned
    # In a network this small a unit may be dead from the start; those of the first layers are not.
    assert before["critic.qf0.0.weight"].dead == before["actor.latent_pi.0.weight"].dead == ()
    assert after["critic.qf0.0.weight"].dead == (3,)
    assert after["critic.qf0.0.weight"].outgoing_zero == (5,)
    assert after["actor.latent_pi.0.weight"].num_cloned == 1
    assert after["actor.latent_pi.2.weight"].outgoing_zero == (4,)
    assert after["actor.log_std.weight"].saturated == (1,)
    assert after["actor.log_std.weight"].activation == "Clamp"
    assert after["critic.qf1.0.weight"] == before["critic.qf1.0.weight"]


def test_tanh_saturation_by_scale_and_its_healthy_twin(tmp_path: Path) -> None:
    checkpoint = trained_on_policy(OnPolicyCase(algorithm="PPO"), tmp_path)
    healthy, found = checkpoint.recomputed(), checkpoint.recomputed()
    found._parameters["mlp_extractor.policy_net.0.weight"].data.mul_(1e4)
    name = "mlp_extractor.policy_net.0.weight"
    shut, well = (unit_activity(units_of(each).tallies[name]) for each in (found, healthy))
    assert shut.saturated_fraction is not None
    assert shut.saturated_fraction > 0.95
    assert len(shut.saturated) > 8
    assert (well.saturated, well.saturated_fraction) == ((), 0)


def sample(run: str, step: int) -> dict[str, UnitActivity]:
    checkpoint = SAMPLES / run / f"rl_model_{step}_steps.zip"
    found = recompute_gradients(
        sb3_training(checkpoint),
        sb3_ring(SAMPLES / run / f"rl_model_replay_buffer_{step}_steps.pkl"),
        None,
        batches=4,
        batch_size=128,
        seed=0,
        user_code=UserCode(blobs=sb3_blobs(checkpoint), folder=SAMPLES),
    )
    return {name: unit_activity(each) for name, each in units_of(found).tallies.items()}


def test_the_collapsed_sample_and_its_cured_twin() -> None:
    """The sample's README: 36 dead units of 64 in the recorder's batch of 128 rows; none when cured."""
    name = "q_net.features_extractor.temporal_projection.weight"
    collapse, healthy = sample("collapse", 10000)[name], sample("healthy", 10000)[name]
    assert 34 <= len(collapse.dead) <= 36
    assert collapse.activation == "ReLU"
    assert collapse.num_rows == 4 * 128 * 4
    assert (healthy.dead, healthy.num_cloned) == ((), 0)
    assert collapse.effective_rank is not None
    assert healthy.effective_rank is not None
    assert collapse.effective_rank < healthy.effective_rank / 2


def test_the_confounded_sample_is_saturated_at_its_last_layer() -> None:
    found = sample("confounded", 8000)["actor.mu.4.weight"]
    assert (found.activation, found.saturated, found.saturated_fraction) == ("Tanh", (0,), 1)
    assert sample("confounded", 4000)["actor.mu.4.weight"].saturated == ()


MODEL = """
import torch

def mine():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.GELU(), torch.nn.Linear(5, 1))
    return model, lambda batch: model(batch["x"]).square().mean()
"""


def test_a_model_of_the_user_s(tmp_path: Path) -> None:
    (tmp_path / "their_model.py").write_text(MODEL)
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.GELU(), torch.nn.Linear(5, 1))
    model[0].weight.data[2], model[0].bias.data[2] = 0, -1e6
    weights = {f"module.{name}": each.numpy() for name, each in model.state_dict().items()}
    data = {"x": np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)}
    found = recompute_model(
        "their_model:mine", weights, data, batches=2, batch_size=20, seed=0, code=tmp_path
    )
    tallies = units_of(found).tallies
    assert set(tallies) == {"module.0.weight", "module.2.weight"}
    assert unit_activity(tallies["module.0.weight"]).dead == (2,)
    assert tallies["module.0.weight"].num_rows == 40
