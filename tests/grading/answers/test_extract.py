import pytest

from fipo.grading.answers.extract import after_thoughts, tagged_answer

FOLLOWS = [
    ("5", "5"),
    ("<think>7</think>5", "5"),
    ("7</think>5", "5"),  # the template had opened them
    ("<think>7</think>6<think>no</think>5", "5"),
    ("<thinking>7</thinking>5", "5"),
    ("[THINK]7[/THINK]5", "5"),
    ("<seed:think>7</seed:think>5", "5"),
    ("<think >7</think >5", "5"),
    ("<|channel|>analysis<|message|>7<|end|><|start|>assistant<|channel|>final<|message|>5", "5"),
    ("<|channel|>analysis<|message|>7", None),
    ("<think>7", None),
    ("<think>7</think>6<think>no", None),
    ("<think></think>", ""),
]


@pytest.mark.parametrize(("response", "rest"), FOLLOWS)
def test_what_follows_the_last_thought_is_read_and_nothing_where_they_do_not_end(response, rest):
    assert after_thoughts(response) == rest


def test_what_stands_in_the_last_tag_ends_where_that_is_first_closed():
    assert tagged_answer("<answer>7</answer><answer>5</answer></answer>") == "5"
