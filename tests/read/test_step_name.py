from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscope.read.step_name import MAX_STEP, known_step, step_of_name, whole_number


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
        ("", None),
    ],
)
def test_step_of_a_name(name: str, step: int | None) -> None:
    assert step_of_name(name) == step


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


def test_no_step_anywhere_has_a_reason() -> None:
    known = known_step(Path("policy.pt"), {})
    assert known.step is None
    assert known.step_from is None
    assert known.reasons == {"step": "neither the content nor the name tells a step"}
