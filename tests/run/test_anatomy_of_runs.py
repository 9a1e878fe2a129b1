"""Real small trainings: actions never taken, inputs by name, the same units or different ones."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from makers import layer, snapshot
from sb3_contrib import QRDQN
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from gradscope import Settings, scan
from gradscope.measure import resolve_slices
from gradscope.measure.zero_details import MAX_LISTED
from gradscope.record import GradscopeCallback
from gradscope.records import LayerGradient, Origin, SnapshotGradient, ZeroAnatomy, ZeroDetails
from gradscope.run.action_heads import with_untaken
from gradscope.run.counted import TakenActions
from gradscope.run.dead_since import TOO_MANY, with_dead_since
from gradscope.run.inputs import RunSlices
from gradscope.run.named_inputs import named_inputs
from gradscope.show.json_document import as_json, report_from, scan_document

if TYPE_CHECKING:
    from pathlib import Path

    import gymnasium

NAMES = ("ret", "vol", "flag", "position_long", "position_short")
OFF_POLICY = {"learning_starts": 20, "batch_size": 16, "buffer_size": 100, "seed": 0, "device": "cpu"}


@pytest.fixture
def market(monkeypatch: pytest.MonkeyPatch) -> Any:
    from pathlib import Path  # noqa: PLC0415  only here at run time

    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "record"))
    from worlds import Market  # noqa: PLC0415  the recorder's test worlds

    return Market


def trained(model: Any, folder: Path, steps: int = 40) -> None:
    torch.set_num_threads(1)
    watch = GradscopeCallback(
        20,
        str(folder),
        save_replay_buffer=True,
        save_vecnormalize=True,
        slices={"position": "position_*"},
        feature_names=NAMES,
        sequence_length=2,
    )
    model.learn(steps, callback=watch)


def last(folder: Path, **changes: Any) -> dict[str, LayerGradient]:
    report = scan(folder, settings=Settings(**changes))
    text = as_json(scan_document(report))
    assert report_from(json.loads(text), "x.json").snapshots == report.snapshots
    return {each.name: each for each in report.snapshots[-1].layers}


def details(one: LayerGradient) -> ZeroDetails:
    assert one.details is not None
    return one.details


@pytest.mark.parametrize(("algorithm", "network"), [(DQN, "q_net"), (QRDQN, "quantile_net")])
@pytest.mark.parametrize("is_avoided", [True, False])
def test_an_action_never_taken(
    algorithm: Any, network: str, is_avoided: bool, market: Any, tmp_path: Path
) -> None:
    policy: dict[str, Any] = {"net_arch": [8]} | ({"n_quantiles": 5} if algorithm is QRDQN else {})
    greedy = {"exploration_initial_eps": 0.0, "exploration_final_eps": 0.0, "learning_starts": 0}
    always = {"exploration_initial_eps": 1.0, "exploration_final_eps": 1.0}
    options = OFF_POLICY | {"train_freq": 1} | (greedy if is_avoided else always)
    model = algorithm("MlpPolicy", market(opens_at=0), policy_kwargs=policy, **options)
    if is_avoided:
        head = getattr(getattr(model.policy, network), network)[-1]
        with torch.no_grad():
            head.bias.reshape(-1, 3)[:, 2] = -1e3
    trained(model, tmp_path)
    head_name = f"{network}.{network}.2"
    found = last(tmp_path, source="recomputed", batches=4)
    for name in (f"{head_name}.weight", f"{head_name}.bias"):
        rows = np.arange(2, found[name].shape[0], 3).tolist() if is_avoided else []
        assert found[name].origin is Origin.RECOMPUTED
        assert list(details(found[name]).dead_units) == rows
        assert details(found[name]).untaken_actions == ((2,) if is_avoided else ())
    assert details(found[f"{network}.{network}.0.weight"]).untaken_actions is None
    stored = details(last(tmp_path, source="stored")[f"{head_name}.weight"])
    if algorithm is QRDQN or not is_avoided:
        assert stored.untaken_actions is None
        assert "untaken_actions" in stored.reasons
    else:
        assert stored.untaken_actions == (2,)


def test_a_dead_row_of_an_action_that_was_taken_is_no_untaken_action() -> None:
    head = layer(
        "q_net.q_net.2.weight", shape=(3, 8), details=ZeroDetails(num_dead_units=2, dead_units=(0, 2))
    )
    hidden = layer("q_net.q_net.0.weight", shape=(8, 8), details=head.details)
    policy = layer("action_net.weight", shape=(3, 8), details=head.details)
    taken = TakenActions(actions=frozenset({0, 1}), num_actions=3, where="here")
    found = with_untaken([hidden, head, policy], taken)
    assert [each.details and each.details.untaken_actions for each in found] == [None, (2,), None]
    assert with_untaken([head], None) == (head,)


def test_inputs_of_the_first_layer_are_named_in_each_bar(market: Any, tmp_path: Path) -> None:
    model = DQN("MlpPolicy", market(opens_at=1000), policy_kwargs={"net_arch": [5]}, **OFF_POLICY)
    trained(model, tmp_path)
    found = last(tmp_path)
    entrance = details(found["q_net.q_net.0.weight"])
    assert entrance.dead_inputs == (2, 3, 4, 7, 8, 9)
    assert entrance.input_names["3"] == "position_long (bar 1 of 2)"
    assert entrance.input_names["9"] == "position_short (bar 2 of 2)"
    assert entrance.input_slices == {
        "2": "market", "7": "market", "3": "position", "4": "position", "8": "position", "9": "position"
    }  # fmt: skip
    assert details(found["q_net.q_net.2.weight"]).input_names == {}


def test_inputs_of_a_critic_are_named_beside_the_actions(market: Any, tmp_path: Path) -> None:
    world = market(opens_at=1000, discrete=False)
    trained(SAC("MlpPolicy", world, policy_kwargs={"net_arch": [8, 10]}, **OFF_POLICY), tmp_path)
    found = last(tmp_path)
    for name in ("actor.latent_pi.0.weight", "critic.qf0.0.weight", "critic.qf1.0.weight"):
        assert list(details(found[name]).input_names) == ["2", "3", "4", "7", "8", "9"]
    # As many inputs as the observation has columns, and not the first of its network.
    assert found["actor.mu.weight"].shape == (1, 10)
    assert details(found["actor.mu.weight"]).input_names == {}


@pytest.mark.parametrize("is_centered", [True, False])
def test_closed_positions_that_vecnormalize_moved_away_from_0_are_found(
    is_centered: bool, market: Any, tmp_path: Path
) -> None:
    class Closing(market):  # type: ignore[misc]
        """Positions that are open in the beginning only."""

        def step(self, action: Any) -> Any:
            self.opens_at = 0 if self.age < 40 else 10**9
            return super().step(action)

    world = VecNormalize(DummyVecEnv([Closing]), norm_obs=is_centered)
    options = OFF_POLICY | {"buffer_size": 60}
    trained(DQN("MlpPolicy", world, policy_kwargs={"net_arch": [16]}, **options), tmp_path, steps=120)
    for source in ("recomputed", "stored"):
        entrance = last(tmp_path, source=source)["q_net.q_net.0.weight"]
        flat, dead = details(entrance).parallel_inputs, details(entrance).dead_inputs
        assert (flat if is_centered else dead) == (2, 3, 4, 7, 8, 9)
        assert (dead if is_centered else flat) == ()
        assert entrance.anatomy is not None
        assert (entrance.anatomy.dead_input > 0) is not is_centered


def known(shape: tuple[int, ...] = (4, 5), **changes: Any) -> RunSlices:
    slices = resolve_slices({"position": ("3:5",)}, shapes={"": shape})
    return replace(RunSlices(slices=slices, feature_names=NAMES, shapes={"": shape}), **changes)


def entering(name: str, width: int, dead: tuple[int, ...] = (1, 4)) -> LayerGradient:
    return layer(name, shape=(8, width), details=ZeroDetails(dead_inputs=dead, num_dead_inputs=len(dead)))


def names(layers: list[LayerGradient], run: RunSlices) -> list[list[str]]:
    return [list(each.details.input_names.values()) for each in named_inputs(layers, run) if each.details]


def test_a_layer_over_each_bar_takes_features_as_they_are_called() -> None:
    extractor = entering("q_net.features_extractor.temporal_projection.weight", 5)
    head = entering("q_net.q_net.0.weight", 5)
    assert names([extractor, head], known()) == [["vol", "position_short"], []]
    assert names([head], known()) == [["vol", "position_short"]]
    flat = entering("q_net.q_net.0.weight", 20, (4, 19))
    wanted = ["position_short (bar 1 of 4)", "position_short (bar 4 of 4)"]
    assert names([flat], known()) == [wanted]
    assert named_inputs([flat], known())[0].details.input_slices == {"4": "position", "19": "position"}  # type: ignore[union-attr]


def test_what_is_no_observation_is_not_named() -> None:
    head = entering("q_net.q_net.0.weight", 5)
    for run in (RunSlices(), known(shapes={"a": (5,), "b": (4,)}), known(shapes={"": (3, 4, 5)})):
        assert names([head], run) == [[]]
    assert names([entering("q_net.q_net.0.weight", 7)], known()) == [[]]
    assert names([entering("critic.qf0.0.weight", 22)], known()) == [[]]
    critic = [entering("critic.qf0.0.weight", 22, (4, 21)), layer("actor.mu.weight", shape=(2, 9))]
    assert names(critic, known()) == [["position_short (bar 1 of 4)", "action 1"]]
    assert names([head], known(feature_names=None)) == [["column 1", "column 4"]]
    assert names([replace(head, anatomy=ZeroAnatomy(whole_layer=9))], known()) == [[]]


def test_heads_and_what_stands_behind_an_lstm_take_no_observation() -> None:
    lstm = [entering(name, 5) for name in ("mlp_extractor.policy_net.0.weight", "action_net.weight")]
    lstm += [entering(f"{name}.weight_ih_l0", 5) for name in ("lstm_actor", "lstm_critic")]
    named = ["vol", "position_short"]
    assert names(lstm, known()) == [[], [], named, named]
    assert names(lstm[:2], known()) == [named, []]
    assert names([entering("net.weight", 5), entering("head.weight", 5)], known()) == [named, []]


def at(step: int | None, dead: tuple[int, ...] | None, number: int | None = None, **changes: Any) -> Any:
    found = None
    if dead is not None:
        found = ZeroDetails(num_dead_units=len(dead) if number is None else number, dead_units=dead)
    return snapshot(step, layers=(layer(details=found),), **changes)


def compared(*snapshots: SnapshotGradient) -> list[Any]:
    return [
        each.layers[0].details and each.layers[0].details.units_since for each in with_dead_since(snapshots)
    ]


def test_units_are_the_same_ones_or_others() -> None:
    first, second, third = compared(at(2, (1, 2, 5)), at(4, (1, 2, 7, 8)), at(6, (1, 5, 7)))
    assert (first.previous_step, first.overlap, first.dead_since) == (None, None, (2, 2, 2))
    assert set(first.reasons) == {"previous_step", "num_before", "num_same", "overlap"}
    assert (second.num_before, second.num_same, second.overlap) == (3, 2, 2 / 5)
    assert second.since == {"2": 2, "4": 2}
    assert third.dead_since == (2, 6, 4)
    assert (third.previous_step, third.overlap) == (4, 2 / 5)


def test_only_what_can_be_compared_is() -> None:
    other = at(4, (1,), origin=Origin.RECOMPUTED)
    one = layer(origin=Origin.RECOMPUTED, details=ZeroDetails(num_dead_units=1, dead_units=(1,)))
    found = compared(at(2, (1,)), replace(other, layers=(one,)), at(6, (1,)))
    assert [each.previous_step for each in found] == [None, None, 2]
    assert [each.previous_step for each in compared(at(2, (1,)), at(4, None), at(6, (1,))) if each] == [
        None,
        2,
    ]
    assert compared(at(2, ()), at(4, ())) == [None, None]
    assert compared(at(2, (1,)), at(4, ()))[1].overlap == 0
    assert compared(at(2, (1,)), at(None, (1,)))[1] is None
    assert [each.previous_step for each in compared(at(2, (1,)), at(4, (1,)), at(4, (1, 2)))] == [None, 2, 2]
    assert [each.previous_step for each in compared(at(2, (1,)), at(2, (1,), run="b"))] == [None, None]


def test_units_that_are_not_all_listed_are_not_compared() -> None:
    listed = tuple(range(MAX_LISTED))
    _, after, later = compared(at(2, listed, 2 * MAX_LISTED), at(4, (1,)), at(6, (1,)))
    assert (after.overlap, after.since, after.reasons["overlap"]) == (None, {}, TOO_MANY)
    assert later.overlap == 1


def test_the_collapse_keeps_its_dead_units_and_loses_its_dead_inputs() -> None:
    from pathlib import Path  # noqa: PLC0415  only here at run time

    report = scan(Path(__file__).parent.parent.parent / "sample_checkpoints" / "collapse")
    name = "q_net.features_extractor.temporal_projection.weight"
    found = {each.step: details(one) for each in report.snapshots for one in each.layers if one.name == name}
    assert list(found[4000].input_slices.values()) == ["position"] * 7
    assert found[4000].input_names["73"] == "position_duration_long_normalized"
    assert found[6000].inputs_since is not None
    assert (found[6000].inputs_since.num_before, found[6000].inputs_since.num_same) == (7, 0)
    since = found[10000].units_since
    assert since is not None
    assert (since.previous_step, since.num_before, since.num_same) == (8000, 29, 29)
    assert since.overlap == pytest.approx(29 / 36)
    key_bias = name.replace("temporal_projection.weight", "attention.in_proj_bias")
    bias = {each.step: one for each in report.snapshots for one in each.layers if one.name == key_bias}[10000]
    assert bias.anatomy is not None
    assert (bias.anatomy.expected, details(bias).num_dust) == (45, 19)


def test_every_null_of_the_details_has_its_reason(market: Any, tmp_path: Path) -> None:
    space: gymnasium.spaces.Space[Any] = spaces.Discrete(3)
    world = market(opens_at=30)
    assert world.action_space == space
    trained(DQN("MlpPolicy", world, policy_kwargs={"net_arch": [8]}, **OFF_POLICY), tmp_path)
    for each in scan(tmp_path).snapshots:
        for one in each.layers:
            for record in (details(one), details(one).units_since, details(one).inputs_since):
                if record is not None:
                    nulls = {key for key, value in vars(record).items() if value is None}
                    assert nulls <= set(record.reasons), one.name
