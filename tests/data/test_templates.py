import pytest
from hypothesis import given
from hypothesis import strategies as st

from fipo.data.problem import Problem
from fipo.data.templates import TEMPLATES, bare_question, in_template
from fipo.errors import UserError


def problem(prompt):
    return Problem(id="test/1", prompt=prompt, answer="4", source="test")


def test_a_question_in_dapos_template_is_the_prompt_that_dapo_publishes():
    assert in_template(problem("What is $2+2$?"), "dapo", "row 1") == problem(
        "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
        "$Answer (without quotes) where $Answer is the answer to the problem.\n\nWhat is $2+2$?\n\n"
        'Remember to put your answer on its own line after "Answer:".'
    )


def test_the_boxed_template_asks_for_a_box():
    prompt = in_template(problem("What is $2+2$?"), "boxed", "row 1").prompt
    assert prompt == "What is $2+2$?\nPlease reason step by step, and put your final answer within \\boxed{}."


def test_without_a_template_a_prompt_stays_as_it_is():
    for prompt in (" 2+2= \n", [{"role": "user", "content": "2+2="}]):
        assert in_template(problem(prompt), "none", "row 1") == problem(prompt)


@pytest.mark.parametrize("template", ["dapo", "boxed"])
def test_data_with_prompts_of_its_own_is_refused(template):
    for prompt in (
        [{"role": "user", "content": "2+2="}],
        in_template(problem("2+2="), "dapo", "row 1").prompt,
        in_template(problem("2+2="), "boxed", "row 1").prompt,
    ):
        with pytest.raises(UserError) as error:
            in_template(problem(prompt), template, "data.jsonl, line 7")
        assert str(error.value) == (
            "data.jsonl, line 7: template must be left out for data that has prompts of its own, "
            f'got template = "{template}"'
        )


@given(st.text().filter(str.strip), st.sampled_from(list(TEMPLATES)))
def test_a_question_is_found_again_in_any_template(question, template):
    before, after = TEMPLATES[template]
    assert bare_question(f"{before}{question}{after}") == bare_question(question)
