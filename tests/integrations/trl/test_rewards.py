"""Our graders and DAPO's overlong penalty as reward functions of TRL."""

import pytest

pytest.importorskip("trl", reason="TRL is not installed here; make test-trl has an environment with it")

from fipo.errors import UserError
from fipo.integrations.trl import grader_reward, overlong_penalty
from fipo.training.reward import overlong_penalty as ours


def test_a_grader_rewards_text_and_messages_by_the_answer_column() -> None:
    reward = grader_reward("number")
    completions = ["It is 12.", "13", [{"role": "assistant", "content": "so 12"}], "none"]
    given = reward(prompts=["?"] * 4, completions=completions, answer=["12"] * 4, completion_ids=[[1]] * 4)
    assert given == [1.0, -1.0, 1.0, -1.0]
    assert reward.__name__ == "number_accuracy"


def test_a_missing_answer_column_is_named() -> None:
    with pytest.raises(ValueError, match="the dataset must have the column 'solution', got answer"):
        grader_reward("number", answer_column="solution")(prompts=["?"], completions=["1"], answer=["1"])


def test_an_unknown_grader_is_refused() -> None:
    with pytest.raises(UserError, match="must be one of number"):
        grader_reward("numbr")


@pytest.mark.parametrize("buffer", [0, 7, 20])
def test_the_overlong_penalty_is_our_own(buffer: int) -> None:
    penalty = overlong_penalty(20, buffer=buffer)
    lengths = range(21)
    assert penalty(completion_ids=[[5] * n for n in lengths]) == [ours(n, 20, buffer) for n in lengths]


def test_a_buffer_longer_than_the_completion_is_refused() -> None:
    with pytest.raises(ValueError, match=r"buffer must be in \[0, 20\] tokens, got 21"):
        overlong_penalty(20, buffer=21)
