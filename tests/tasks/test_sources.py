import sys

import pytest

from fipo.errors import UserError
from fipo.tasks.problem import Problem
from fipo.tasks.signed_sums import signed_sums
from fipo.tasks.sources import ReasoningGym, SignedSums, load_problems, merge_repeats, without


def problem(text, answer="4", name=None):
    return Problem(id=name or f"test/{text}", prompt=text, answer=answer, source="test")


def test_repeats_are_merged_at_their_first_place():
    first, second = problem("2+2="), problem("1+3=")
    assert merge_repeats([first, second, problem("2+2="), problem("1+3="), first]) == [first, second]


def test_a_repeat_under_another_name_is_still_a_repeat():
    assert merge_repeats([problem("2+2=", name="a"), problem("2+2=", name="b")]) == [problem("2+2=", name="a")]


def test_a_chat_and_a_text_with_the_same_words_are_one_question():
    chat = Problem(id="chat", prompt=[{"role": "user", "content": "2+2="}], answer="4", source="test")
    assert merge_repeats([chat, problem("2+2=")]) == [chat]


def test_a_question_with_two_answers_is_refused():
    with pytest.raises(UserError) as error:
        merge_repeats([problem("2+2=", "4", "a/1"), problem("1+3="), problem("2+2=", "5", "b/2")])
    assert str(error.value) == "data: a question must have one answer, got '4' (a/1) and '5' (b/2) for '2+2='"


def test_an_id_with_two_questions_is_refused():
    with pytest.raises(UserError) as error:
        merge_repeats([problem("2+2=", name="a/1"), problem("1+3=", name="a/1")])
    assert str(error.value) == "data: an id must name one question, got two for 'a/1'"


def test_held_out_questions_leave_training_whatever_their_id():
    kept = problem("1+3=")
    assert without([problem("2+2="), kept, problem("3+1=")], [problem("2+2=", name="other"), problem("3+1=")]) == [kept]


def test_signed_sums_come_by_role_count_and_seed():
    source = SignedSums(source="signed_sums", count=9)
    assert load_problems(source, "train", 3) == signed_sums("train", 9, 3)
    assert load_problems(source, "eval", 3) == signed_sums("eval", 9, 3)


def chain_sum(count=5, task="chain_sum", **options):
    pytest.importorskip("reasoning_gym")
    return ReasoningGym(source="reasoning_gym", task=task, count=count, options=options)


def test_a_reasoning_gym_task_is_found_by_its_name():
    problems = load_problems(chain_sum(), "train", 0)
    assert len(problems) == 5
    for each in problems:
        expression = each.prompt.partition(": ")[2].removesuffix(" =")
        assert eval(expression) == int(each.answer)
        assert each.source == "reasoning_gym/chain_sum"
        assert each.id.startswith("chain_sum/")


def test_reasoning_gym_problems_are_a_function_of_seed_and_role():
    assert load_problems(chain_sum(), "train", 0) == load_problems(chain_sum(), "train", 0)
    assert load_problems(chain_sum(), "train", 0) != load_problems(chain_sum(), "train", 1)
    assert load_problems(chain_sum(), "train", 0) != load_problems(chain_sum(), "eval", 0)


def test_options_reach_the_reasoning_gym_task():
    for each in load_problems(chain_sum(min_terms=7, max_terms=7), "train", 0):
        assert sum(each.prompt.count(sign) for sign in (" + ", " - ")) == 6


@pytest.mark.parametrize(
    ("task", "options", "reason"),
    [
        ("chain_summ", {}, "task 'chain_summ': Dataset 'chain_summ' not registered"),
        ("chain_sum", {"terms": 3}, "task 'chain_sum': ChainSumConfig.__init__() got an unexpected keyword argument"),
        ("chain_sum", {"min_terms": -1}, "task 'chain_sum': min_terms must be positive"),
        ("chain_sum", {"min_terms": "two"}, "task 'chain_sum': "),
    ],
)
def test_what_reasoning_gym_refuses_gives_one_clear_line(task, options, reason):
    with pytest.raises(UserError) as error:
        load_problems(chain_sum(task=task, **options), "train", 0)
    assert str(error.value).startswith(f"data: reasoning_gym refuses {reason}")
    assert "\n" not in str(error.value)


def test_without_the_extra_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)  # what an import finds where it is not installed
    with pytest.raises(UserError) as error:
        load_problems(ReasoningGym(source="reasoning_gym", task="chain_sum", count=5), "train", 0)
    assert str(error.value) == 'data: source "reasoning_gym" needs the extra: pip install "fipo[gym]"'
