from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscope.read.step_name import MAX_STEP, known_step, step_of_folder, step_of_name, whole_number


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("rl_model_2000_steps.zip", 2000),
        ("rl_model_replay_buffer_2000_steps.pkl", 2000),
        ("rl_model_gradscope_6000_steps.safetensors", 6000),
        ("rl_model_2000_steps(1).zip", 2000),
        ("step_2000.pt", 2000),
        ("step-2000.pt", 2000),
        ("step=20.ckpt", 20),
        ("epoch=1-step=20.ckpt", 20),
        ("epoch-1-step-20.ckpt", 20),
        ("global_step12.pt", 12),
        ("a-20-steps.pt", 20),
        ("ckpt-2000", 2000),
        ("checkpoint-500", 500),
        ("iter_5.pth", 5),
        ("model_2000.pt", 2000),
        ("model_000200.pt", 200),
        ("2000.pt", 2000),
        ("model_epoch_10.pt", 10),
        ("best_model.zip", None),
        ("model_v2.pt", None),
        ("seed_1.pt", None),
        ("policy.pt", None),
        ("model.safetensors", None),
        ("last.ckpt", None),
        ("step_-5.pt", None),
        ("rl_model_-2000_steps.zip", None),
        ("ckpt--5.pt", None),
        (f"step_{'9' * 30}.pt", None),
        (f"rl_model_{MAX_STEP + 1}_steps.zip", None),
        ("model_\u0663.pt", None),
        ("epoch=1-step=20-v1.ckpt", 20),
        ("agent_1000.pt", 1000),
        ("ckpt_00001000.pth", 1000),
        ("model-1.2M.pt", 1_200_000),
        ("ckpt_500k.pt", 500_000),
        ("1e6.pt", 1_000_000),
        ("ppo_10M_steps.zip", 10_000_000),
        ("step_000100", 100),
        ("iter_0000500", 500),
        ("global_step1000", 1000),
        ("ep100", 100),
        ("update_50", 50),
        ("itr_100.pkl", 100),
        ("frames_4000000.pt", 4_000_000),
        ("dqn-250000-frames.pt", 250_000),
        ("100_actor.pth", 100),
        ("checkpoint_2_500.pt", 500),
        ("checkpoint_000000978_4005888.pth", 4_005_888),
        ("checkpoint_500_2.pt", 500),
        ("checkpoint_1_4.pt", 1),
        ("checkpoint_000001_20240501.pt", 1),
        ("checkpoint_5_1714579200.pt", 5),
        ("checkpoint_10_2024-05-01.pt", 10),
        ("checkpoint_2_500k.pt", 2),
        ("checkpoint_1_2f3c9a7b.pt", 1),
        ("checkpoint_10_12ab34cd", 10),
        ("checkpoint_3_93acc", 3),
        ("checkpoint_10_128x128", 10),
        ("checkpoint_000000123_503808_milestone.pth", 503_808),
        ("ep1-ba100-rank0.pt", 100),
        ("pytorch_model_fsdp_0", None),
        (f"checkpoint_1_{'9' * 10_000}.pt", None),
        ("epoch_3_iter_500.pth", 500),
        ("checkpoint_000010", 10),
        ("seed1_model_500.pt", 500),
        ("model_seed3_1000.pt", 1000),
        ("agent_1000_score_250.pt", 1000),
        ("2024-05-01_12-30-15_model_500.pt", 500),
        ("step_1700000000.pt", 1_700_000_000),
        ("model_1700000000.pt", None),
        ("model_2024-05-01_12-30.pt", None),
        ("model_20240501.pt", None),
        ("model-00001-of-00002.safetensors", None),
        ("checkpoint-12345678abc.pt", None),
        ("model_a1b2c3d4.pt", None),
        ("550e8400-e29b-41d4-a716-446655440000.pt", None),
        ("best_model_0.95.pth", None),
        ("model_best_acc_93.2.pt", None),
        ("model_reward=200.pt", None),
        ("resnet18.pt", None),
        ("model-7b.pt", None),
        ("checkpoint_best", None),
        ("__0_0.distcp", None),
        ("mp_rank_00_model_states.pt", None),
        ("", None),
    ],
)
def test_step_of_a_name(name: str, step: int | None) -> None:
    assert step_of_name(name) == step


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step_1000", 1000),
        ("checkpoint-1000", 1000),
        ("epoch_3", 3),
        ("global_step1000", 1000),
        ("000010", 10),
        ("rl_model_2000_steps", 2000),
        ("what_a_long_name_of_step_7", None),
        ("my_step7", None),
        ("1", None),
        ("seed_1", None),
        ("run_1000", None),
        ("version_0", None),
        ("model_3", None),
        ("20240501", None),
    ],
)
def test_step_of_a_folder(name: str, step: int | None) -> None:
    assert step_of_folder(name) == step


@given(st.integers(0, MAX_STEP))
def test_every_step_comes_back_from_sb3s_own_name(step: int) -> None:
    assert step_of_name(f"rl_model_{step}_steps.zip") == step


@given(st.text(max_size=300))
def test_no_name_breaks_it(name: str) -> None:
    step = step_of_name(name)
    assert step is None or 0 <= step <= MAX_STEP


def test_ten_thousand_digits_are_no_step() -> None:
    assert step_of_name(f"step_{'1' * 10_000}.pt") is None


@pytest.mark.parametrize(
    "value", [-1, MAX_STEP + 1, 10**30, 0.5, float("nan"), float("inf"), True, "7", None, []]
)
def test_what_is_no_step(value: object) -> None:
    assert whole_number(value) is None


def test_content_counts_and_a_contradicting_name_is_told() -> None:
    known = known_step(Path("rl_model_3000_steps.zip"), {"num_timesteps": 2000})
    assert (known.step, known.step_from) == (2000, "num_timesteps")
    assert known.notes == ("the name says step 3000, the content (num_timesteps) 2000: the content counts",)


def test_agreeing_names_need_no_word() -> None:
    assert known_step(Path("rl_model_2000_steps.zip"), {"num_timesteps": 2000}).notes == ()


def test_an_absurd_step_in_the_content_leaves_the_name_to_speak() -> None:
    known = known_step(Path("model_7.pt"), {"step": -4})
    assert (known.step, known.step_from) == (7, "name")
    assert known.notes == ("step is no step: it holds -4",)


def test_a_number_of_a_name_that_is_no_step_is_told() -> None:
    known = known_step(Path("step_-5.pt"), {})
    assert (known.step, known.notes) == (None, ("the name's number is no step: -5",))


def test_a_folder_tells_the_step_where_nothing_else_does() -> None:
    known = known_step(Path("run/step_1000/model.pt"), {})
    assert (known.step, known.step_from) == (1000, "folder")
    assert known_step(Path("run/step_1000/model_7.pt"), {}).step == 7
    assert known_step(Path("run/step_1000/model.pt"), {"step": 5}).step == 5


def test_no_step_anywhere_has_a_reason() -> None:
    known = known_step(Path("policy.pt"), {})
    assert known.step is None
    assert known.step_from is None
    assert known.reasons == {"step": "neither the content nor the name tells a step"}
