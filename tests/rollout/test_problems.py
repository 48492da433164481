import json
from contextlib import ExitStack
from functools import cache

import pytest

from fipo.data.sources import Countdown, File, SignedSums
from fipo.errors import UserError
from fipo.grading.workers.pool import GraderPool
from fipo.models.tokenizer import make_tokenizer
from fipo.rollout.problems import PromptLimit, usable_problems
from fipo.rollout.table import ProblemTable


def row(question, answer="4", index=None):
    return {"prompt": question, "reward_model": {"ground_truth": answer}, "extra_info": {"index": index}}


@pytest.fixture(scope="module")
def graders():
    """Real pools by the name of their grader."""
    with ExitStack() as open_pools:

        @cache
        def pool(name):
            return open_pools.enter_context(GraderPool(name, workers=1, deadline_seconds=10, memory_mib=1024))

        yield pool


@pytest.fixture
def usable(tmp_path, graders):
    """Reads rows as the training file data.jsonl: (questions, what was said), the folder taken off."""

    def call(written, role="train", budget=0, limit=100, grader="number", template=None, rows=1000):
        path = tmp_path / "data.jsonl"
        path.write_text("".join(json.dumps(each) + "\n" for each in written))
        tokenizer = make_tokenizer()
        tokenizer.chat_template = template
        prompt_format = "raw" if template is None else "chat"
        table = ProblemTable(prompt_format=prompt_format, grader=grader, max_bad_rows=budget)
        said = []
        try:
            problems = usable_problems(
                File(source="file", path=str(path)),
                role,
                table,
                graders=graders(grader),
                seed=0,
                limit=PromptLimit(tokenizer=tokenizer, prompting=table, max_tokens=limit, rows=rows),
                say=said.append,
            )
        except UserError as error:
            raise UserError(str(error).replace(f"{tmp_path}/", "")) from None
        return [problem.text for problem in problems], [line.replace(f"{tmp_path}/", "") for line in said]

    return call


def test_what_is_right_is_used_in_its_order_and_nothing_is_said(usable):
    assert usable([row("2+2="), row("1+3="), row("4+0=")]) == (["2+2=", "1+3=", "4+0="], [])


def test_exact_repeats_are_counted_by_role(usable):
    rows = [row("2+2="), row("2+2="), row("1+3="), row("2+2=")]
    assert usable(rows, role="eval") == (["2+2=", "1+3="], ["data.eval: 2 exact repeats merged"])
    assert usable(rows[:2])[1] == ["data.train: 1 exact repeat merged"]


def test_a_long_prompt_is_a_bad_row_named_with_its_place_and_length(usable):
    rows = [row("2+2="), row("1+1+1+1="), row("1+1+1+1+0="), row("1+3+0=")]
    questions, said = usable(rows, limit=6, budget=2)
    assert questions == ["2+2=", "1+3+0="]
    rule = "a prompt must have at most rollout.max_prompt_tokens = 6 tokens"
    assert said == [
        f"data.jsonl, line 2: {rule}, got 8; left out",
        f"data.jsonl, line 3: {rule}, got 10; left out",
        "data.train: 2 malformed rows left out (data.max_bad_rows = 2)",
    ]
    with pytest.raises(UserError, match=r"line 3: a prompt must have at most .* got 10 \(malformed row 2 of"):
        usable(rows, limit=6, budget=1)


def test_an_answer_that_the_number_grader_cannot_read_is_a_malformed_row(usable):
    rows = [row("2+2="), row("1+3=", "four"), row("4+0=")]
    with pytest.raises(UserError) as error:
        usable(rows)
    assert str(error.value) == (
        "data.jsonl, line 2: grader \"number\" needs a number as answer, got 'four' "
        "(malformed row 1 of this source; data.max_bad_rows = 0 may be left out)"
    )
    assert usable(rows, budget=1) == (
        ["2+2=", "4+0="],
        [
            "data.jsonl, line 2: grader \"number\" needs a number as answer, got 'four'; left out",
            "data.train: 1 malformed row left out (data.max_bad_rows = 1)",
        ],
    )


def test_another_grader_takes_any_answer(usable):
    assert usable([row("2+2=", "four")], grader="exact") == (["2+2="], [])


def test_a_prompt_without_tokens_is_named_with_its_row(usable):
    nothing = "{{ messages[0]['content'] if messages[0]['content'] != '1+3=' }}"
    with pytest.raises(UserError, match=r"^data\.jsonl, line 2: a prompt must have at least one token, got none for"):
        usable([row("2+2="), row("1+3=")], template=nothing)
    assert usable([row("2+2="), row("1+3=")], template=nothing, budget=1)[0] == ["2+2="]


def test_a_chat_that_the_template_refuses_is_named_with_its_row(usable):
    strict = "{% if messages[0]['role'] != 'user' %}{{ raise_exception('Roles must alternate') }}{% endif %}"
    strict += "{{ messages[0]['content'] }}"
    rows = [row("2+2="), row([{"role": "assistant", "content": "1+3="}])]
    with pytest.raises(UserError, match=r"^data\.jsonl, line 2: the chat template refuses .*: Roles must alternate"):
        usable(rows, template=strict)


def test_a_prompt_with_a_token_that_the_model_has_no_row_for_is_named_with_its_row(usable):
    with pytest.raises(UserError, match=r"^data\.jsonl, line 1: a prompt must have tokens below 4, the rows of the"):
        usable([row("2+2=")], rows=4)


def test_every_stage_counts_within_one_budget(usable):
    rows = [row("2+2="), {}, row("1+3=", "four"), row("4+0=", "4", 9), row("0+4=", "4", 9)]
    questions, said = usable(rows, budget=3)
    assert questions == ["2+2="]
    assert said[-1] == "data.train: 3 malformed rows left out (data.max_bad_rows = 3)"
    with pytest.raises(UserError, match=r"\(malformed row 3 of this source; data\.max_bad_rows = 2 may be left out\)"):
        usable(rows, budget=2)


def test_if_nothing_remains_the_line_counts_the_reasons(usable):
    with pytest.raises(UserError) as error:
        usable([row("2+2="), row("1+3="), {}], limit=3, budget=9)
    assert str(error.value) == ("data.train: at least one problem must remain, got none (3 rows malformed)")


@pytest.mark.parametrize("grader", ["countdown", "reasoning_gym"])
def test_a_grader_that_is_made_for_a_source_refuses_another(grader, graders):
    if grader == "reasoning_gym":
        pytest.importorskip(grader)
    sums = SignedSums(source="signed_sums", count=3)
    with pytest.raises(UserError) as error:
        usable_problems(
            sums, "train", ProblemTable(grader=grader), graders=graders(grader), seed=0, limit=None, say=print
        )
    assert str(error.value) == (
        f'signed_sums, entry 0: grader "{grader}" needs source "{grader}", got signed_sums '
        "(malformed row 1 of this source; data.max_bad_rows = 0 may be left out)"
    )


@pytest.mark.parametrize(("grader", "answer"), [("math", "(" * 60), ("dapo", "\\text{m}"), ("number", "four")])
def test_an_answer_that_its_grader_cannot_read_is_a_bad_row_whatever_the_grader(grader, answer, usable):
    questions, said = usable([row("2+2="), row("how long?", answer)], grader=grader, budget=1)
    assert questions == ["2+2="]
    assert said[0].startswith(f'data.jsonl, line 2: grader "{grader}" needs a')


def test_a_grader_of_the_users_may_say_what_it_cannot_read_and_may_fail(usable, graders, tmp_path, monkeypatch):
    (tmp_path / "choosy.py").write_text(CHOOSY)
    monkeypatch.chdir(tmp_path)
    questions, said = usable([row("2+2="), row("1+3=", "odd"), row("4+0=", "boom")], grader="choosy:even", budget=2)
    assert questions == ["2+2="]
    assert said[:2] == [
        "data.jsonl, line 2: must be a whole number; left out",
        "data.jsonl, line 3: grader 'choosy:even' failed on the problem: ValueError: boom; left out",
    ]


CHOOSY = """
from fipo.grading.grade import Grade
from fipo.grading.grader import Grader

class Even(Grader):
    def readable(self, problem):
        if problem.answer == "boom":
            raise ValueError("boom")
        return None if problem.answer.isdigit() else "must be a whole number"

even = Even()
"""


def test_a_generators_problems_are_used_as_they_come(graders):
    said = []
    source, table = Countdown(source="countdown", count=3), ProblemTable(grader="countdown")
    problems = usable_problems(
        source, "train", table, graders=graders("countdown"), seed=0, limit=None, say=said.append
    )
    assert len(problems) == 3 and said == []
