import json
import os
import re
import subprocess
import sys

import pytest
from pyarrow import parquet
from pydantic import TypeAdapter, ValidationError
from tests.data.helpers import PUBLISHED, WRITERS, dapo_row, write_jsonl

from fipo.data.bad_rows import BadRows
from fipo.data.made.countdown import countdown
from fipo.data.made.signed_sums import signed_sums
from fipo.data.sources import (
    Countdown,
    EvalSources,
    File,
    ReasoningGym,
    SignedSums,
    Source,
    TrainSources,
    load_problems,
    sources_of,
)
from fipo.data.templates import TEMPLATES
from fipo.errors import UserError
from fipo.extras import install_hint
from fipo.recipe.table import Table, validate


def load(source, role="train", seed=0):
    return [placed.problem for placed in load_problems(source, role, seed, BadRows(0, print)).problems]


def load_file(path, budget=0):
    """(problems by their place, repeats, what was said), the path taken off."""
    said = []
    merged = load_problems(File(source="file", path=str(path)), "train", 0, BadRows(budget, said.append))
    problems = {placed.where.removeprefix(f"{path}, "): placed.problem for placed in merged.problems}
    return problems, merged.repeats, [line.replace(f"{path}, ", "") for line in said]


# Files


@pytest.mark.parametrize("kind", WRITERS)
def test_a_files_problems_know_their_place_and_repeats_are_counted(kind, tmp_path):
    path = tmp_path / f"data.{kind}"
    WRITERS[kind](path, [dapo_row(1), dapo_row(2, "1+3="), dapo_row(1), dapo_row(1), dapo_row(3, "5+5=")])
    problems, repeats, said = load_file(path)
    noun = {"jsonl": "line", "parquet": "row"}[kind]
    assert {where: problem.id for where, problem in problems.items()} == {
        f"{noun} 1": "math_dapo/id-1",
        f"{noun} 2": "math_dapo/id-2",
        f"{noun} 5": "math_dapo/id-3",
    }
    assert (repeats, said) == (2, [])


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_malformed_row_costs_itself_within_one_budget(kind, tmp_path):
    path = tmp_path / f"data.{kind}"
    rows = [
        dapo_row(1),
        dapo_row(2) | {"prompt": None},
        dapo_row(3, "1+3=", None),
        dapo_row(4, "What is 2+2?", "5"),
        dapo_row(5, "5+5="),
        dapo_row(5, "6+6="),
        dapo_row(6, "7+7="),
    ]
    WRITERS[kind](path, rows)
    problems, repeats, said = load_file(path, budget=4)
    noun = {"jsonl": "line", "parquet": "row"}[kind]
    assert (list(problems), repeats) == ([f"{noun} 7"], 0)
    assert said == [
        f"{noun} 2: prompt must be a text or a list of messages, got None; left out",
        f"{noun} 3: reward_model.ground_truth must be a text or a number, got None; left out",
        f"{noun} 4: a question must have one answer, got '5' here and '4' in {noun} 1: neither is used; left out",
        f"{noun} 6: an id must name one question, got 'math_dapo/id-5' here and in {noun} 5: neither is used; left out",
    ]
    with pytest.raises(UserError) as error:
        load_file(path, budget=3)
    assert str(error.value).startswith(f"{path}, {noun} 6: an id must name one question")


def test_a_row_far_into_a_parquet_file_is_counted_from_its_beginning(tmp_path):
    path = tmp_path / "data.parquet"
    WRITERS["parquet"](path, [dapo_row(0) for i in range(3000)] + [dapo_row(0) | {"prompt": None}])
    with pytest.raises(UserError) as error:
        load_file(path)
    assert str(error.value).startswith(f"{path}, row 3001: ")


def test_unreadable_lines_and_malformed_rows_share_one_budget(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text(f"{json.dumps(dapo_row(1))}\nno json\n[]\n")
    assert len(load_file(path, budget=2)[2]) == 2
    with pytest.raises(UserError) as error:
        load_file(path, budget=1)
    assert str(error.value).startswith(f"{path}, line 3: a row must be an object, got list (malformed row 2 ")


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_without_rows_is_refused(kind, tmp_path):
    path = tmp_path / f"data.{kind}"
    WRITERS[kind](path, [dapo_row(1)])
    if kind == "jsonl":
        path.write_text("\n")
    else:
        parquet.write_table(parquet.read_table(path).slice(0, 0), path)
    with pytest.raises(UserError) as error:
        load_file(path)
    assert str(error.value) == f"{path}: holds no rows"


def test_a_file_of_malformed_rows_alone_is_not_an_empty_one(tmp_path):
    path = tmp_path / "data.jsonl"
    write_jsonl(path, [[], []])
    assert load_file(path, budget=2)[0] == {}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_file_with_the_columns_of_a_published_dataset_is_read_as_that(name, kind, tmp_path):
    path = tmp_path / f"data.{kind}"
    WRITERS[kind](path, [row for row, _ in PUBLISHED[name]])
    problems, repeats, said = load_file(path)
    assert [problem.answer for problem in problems.values()] == [answer for _, answer in PUBLISHED[name]]
    assert {problem.source for problem in problems.values()} == {"data"}
    assert (repeats, said) == (0, [])


def test_the_rows_of_a_published_dataset_that_do_not_fit_are_named_within_the_budget(tmp_path):
    path = tmp_path / "data.jsonl"
    rows = [row for row, _ in PUBLISHED["openai/gsm8k"]]
    write_jsonl(path, [*rows, rows[0], rows[1] | {"answer": "It is -3."}, {"question": "2+2="}])
    problems, repeats, said = load_file(path, budget=2)
    assert (list(problems), repeats) == (["line 1", "line 2"], 1)
    assert said[0].startswith("line 4: answer must end in '#### ' and the final answer, or be that alone, got 'It")
    assert said[1].startswith("line 5: must have the columns of a known layout (dapo: prompt, reward_model; ")


def test_the_files_of_one_dataset_are_read_as_one(tmp_path):
    paths = [tmp_path / "aime2025-I.jsonl", tmp_path / "aime2025-II.parquet"]
    first, second = {"question": "2+2=", "answer": "4"}, {"question": "1+2=", "answer": "3"}
    WRITERS["jsonl"](paths[0], [first])
    WRITERS["parquet"](paths[1], [second, first])
    source = File(source="file", path=[str(path) for path in paths])
    merged = load_problems(source, "train", 0, BadRows(0, print))
    assert [placed.where for placed in merged.problems] == [f"{paths[0]}, line 1", f"{paths[1]}, row 1"]
    assert [placed.problem.source for placed in merged.problems] == ["aime2025-I", "aime2025-II"]
    assert merged.repeats == 1


def test_each_of_several_files_must_hold_rows(tmp_path):
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    write_jsonl(paths[0], [dapo_row(1)])
    write_jsonl(paths[1], [])
    with pytest.raises(UserError) as error:
        load_problems(File(source="file", path=[str(path) for path in paths]), "train", 0, BadRows(0, print))
    assert str(error.value) == f"{paths[1]}: holds no rows"


def test_the_template_of_a_file_goes_around_its_questions(tmp_path):
    path = tmp_path / "data.jsonl"
    write_jsonl(path, [{"question": "2+2=", "answer": "#### 4"}])
    (problem,) = load(File(source="file", path=str(path), template="boxed"))
    assert problem.prompt == f"2+2={TEMPLATES['boxed'][1]}"
    write_jsonl(path, [dapo_row(1)])
    with pytest.raises(UserError) as error:
        load(File(source="file", path=str(path), template="boxed"))
    assert str(error.value).startswith(
        f"{path}, line 1: template must be left out for data that has prompts of its own"
    )


# Generators


def test_signed_sums_have_as_many_terms_as_asked():
    source = SignedSums(source="signed_sums", count=40, min_terms=9, max_terms=12)
    lengths = {len(re.findall(r"\d+", problem.text)) for problem in load(source, "train")}
    assert lengths == {9, 10, 11, 12}
    with pytest.raises(ValidationError, match="must be >= min_terms = 9, got 8"):
        SignedSums(source="signed_sums", count=40, min_terms=9)


def test_signed_sums_come_by_role_count_and_seed():
    source = SignedSums(source="signed_sums", count=9)
    assert load(source, "train", 3) == signed_sums("train", 9, 3)
    assert load(source, "eval", 3) == signed_sums("eval", 9, 3)


def test_countdown_comes_by_role_count_and_seed():
    source = Countdown(source="countdown", count=9)
    assert load(source, "train", 3) == countdown("train", 9, 3)
    assert load(source, "eval", 3) == countdown("eval", 9, 3)


def test_every_key_of_countdown_reaches_the_generator():
    keys = {"min_terms": 5, "max_terms": 6, "largest": 12, "operators": ["+", "-"]}
    found = load(Countdown(source="countdown", count=9, **keys))
    assert found == countdown("train", 9, 0, terms=(5, 6), largest=12, operators=("+", "-"))
    for key in keys:
        rest = {name: value for name, value in keys.items() if name != key}
        if key == "max_terms":
            rest["min_terms"] = 4
        assert load(Countdown(source="countdown", count=9, **rest)) != found


class Holder(Table):
    train: Source


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("max_terms", 2, "train.max_terms: must be >= min_terms = 3, got 2"),
        ("min_terms", 1, "train.min_terms: must be greater than or equal to 2, got 1"),
        ("operators", [], "train.operators: must have at least 1 item after validation, not 0, got []"),
        ("largest", 1, "train.largest: must be greater than or equal to 2, got 1"),
    ],
)
def test_what_countdown_cannot_be_is_refused_with_the_key(key, value, message):
    with pytest.raises(UserError) as error:
        validate(Holder, {"train": {"source": "countdown", "count": 5, key: value}}, "recipe")
    assert str(error.value) == f"recipe: {message}"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("path", 5, "train.path: must be a path or a list of paths, got 5"),
        ("path", [], "train.path: must be a path or a list of paths, got []"),
        ("path", ["a.jsonl", 5], "train.path: must be a path or a list of paths, got ['a.jsonl', 5]"),
        ("template", "DAPO", "train.template: must be 'none', 'dapo' or 'boxed', got 'DAPO'"),
    ],
)
def test_what_a_file_source_cannot_be_is_refused_with_the_key(key, value, message):
    with pytest.raises(UserError) as error:
        validate(Holder, {"train": {"source": "file", "path": "data.jsonl", key: value}}, "recipe")
    assert str(error.value) == f"recipe: {message}"


def chain_sum(count=5, task="chain_sum", **options):
    pytest.importorskip("reasoning_gym")
    return ReasoningGym(source="reasoning_gym", task=task, count=count, options=options)


@pytest.fixture(scope="module")
def five_sums():
    """Each loading is a process of its own."""
    return load(chain_sum())


def test_a_reasoning_gym_task_is_found_by_its_name(five_sums):
    assert len(five_sums) == 5
    for each in five_sums:
        expression = each.prompt.partition(": ")[2].removesuffix(" =")
        assert eval(expression) == int(each.answer)
        assert each.source == "reasoning_gym/chain_sum"
        assert each.id.startswith("chain_sum/")


def test_reasoning_gym_problems_are_a_function_of_seed_and_role(five_sums):
    assert five_sums == load(chain_sum())
    assert five_sums != load(chain_sum(), seed=1)
    assert five_sums != load(chain_sum(), "eval")


def test_options_reach_the_reasoning_gym_task():
    for each in load(chain_sum(min_terms=7, max_terms=7)):
        assert sum(each.prompt.count(sign) for sign in (" + ", " - ")) == 6


def test_a_reasoning_gym_entry_can_be_created_again_from_what_a_file_holds_of_it():
    problems = load(chain_sum(min_terms=3, max_terms=3), seed=7)
    import reasoning_gym

    for each in problems:
        kept = json.loads(json.dumps(each.metadata))
        assert kept == each.metadata
        dataset = reasoning_gym.create_dataset(kept["task"], size=kept["size"], seed=kept["seed"], **kept["options"])
        entry = dataset[kept["index"]]
        assert (entry["question"], entry["answer"]) == (each.prompt, each.answer)


def test_entries_of_reasoning_gym_that_ask_the_same_are_one_problem():
    merged = load_problems(
        chain_sum(count=50, min_terms=2, max_terms=2, min_digits=1, max_digits=1), "train", 0, BadRows(0, print)
    )
    assert merged.repeats > 0
    assert len({placed.problem.text for placed in merged.problems}) == len(merged.problems) == 50 - merged.repeats
    for placed in merged.problems:
        assert placed.where == f"reasoning_gym/chain_sum, entry {placed.problem.metadata['index']}"


def test_a_reasoning_gym_task_that_gives_no_answer_leaves_it_empty():
    assert {each.answer for each in load(chain_sum(task="graph_color"))} == {""}


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
        load(chain_sum(task=task, **options))
    assert str(error.value).startswith(f"data: reasoning_gym refuses {reason}")
    assert "\n" not in str(error.value)


def test_without_the_extra_the_message_says_how_to_install_it(monkeypatch, tmp_path):
    absent = tmp_path / "reasoning_gym.py"
    absent.write_text("raise ImportError")  # what an import finds where it is not installed
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(UserError) as error:
        load(ReasoningGym(source="reasoning_gym", task="chain_sum", count=5))
    assert str(error.value) == f'data: source "reasoning_gym" needs the extra: {install_hint("gym")}'


@pytest.mark.slow
def test_questions_that_depend_on_the_order_of_a_set_are_the_same_in_every_process():
    """Such as those of isomorphic_strings: this process has a hash seed of its own."""
    pytest.importorskip("reasoning_gym")
    source = ReasoningGym(source="reasoning_gym", task="isomorphic_strings", count=8)
    script = (
        "from fipo.data.bad_rows import BadRows\n"
        "from fipo.data.sources import ReasoningGym, load_problems\n"
        "source = ReasoningGym(source='reasoning_gym', task='isomorphic_strings', count=8)\n"
        "print([p.problem.text for p in load_problems(source, 'train', 0, BadRows(0, print)).problems])"
    )
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
        )
        assert done.stdout == f"{[problem.text for problem in load(source)]}\n"


def test_a_task_whose_scorers_would_run_unguarded_is_refused():
    with pytest.raises(UserError, match="task 'composite' is not supported"):
        load(ReasoningGym(source="reasoning_gym", task="composite", count=2))


SUMS = {"source": "signed_sums", "count": 3}


def test_sources_are_named_by_their_keys_in_the_recipe():
    one = SignedSums(**SUMS)
    assert sources_of(one, "data.train") == {"data.train": one}
    assert sources_of([one, one], "data.train") == {"data.train.0": one, "data.train.1": one}
    assert sources_of({"sums": one}, "data.eval") == {"data.eval.sums": one}


def test_training_takes_one_source_or_several_with_weights():
    train = TypeAdapter(TrainSources)
    assert train.validate_python(SUMS) == SignedSums(**SUMS)
    first, second = train.validate_python([SUMS, SUMS | {"weight": 2.0}])
    assert (first.weight, second.weight) == (None, 2.0)
    assert train.dump_python([first, second], exclude_defaults=True) == [SUMS, SUMS | {"weight": 2.0}]


def test_evaluation_takes_one_source_or_several_by_name():
    evaluation = TypeAdapter(EvalSources)
    assert evaluation.validate_python(SUMS) == SignedSums(**SUMS)
    assert evaluation.validate_python({"short": SUMS, "long": SUMS}).keys() == {"short", "long"}


@pytest.mark.parametrize("value", [SUMS | {"weight": 2.0}, {"short": SUMS | {"weight": 2.0}}])
def test_a_weight_is_for_one_of_several_training_sources(value):
    with pytest.raises(ValidationError, match="weight is for one of several training sources"):
        TypeAdapter(EvalSources).validate_python(value)


def test_a_source_may_not_have_the_name_of_a_metric():
    with pytest.raises(ValidationError, match="must not have the name of a metric, got 'greedy'"):
        TypeAdapter(EvalSources).validate_python({"greedy": SUMS})


def test_columns_without_a_prompt_or_an_answer_are_refused():
    with pytest.raises(ValidationError, match="must say which column is the answer: "):
        File(source="file", path="x.jsonl", columns={"prompt": "question"})


def test_a_file_whose_columns_the_recipe_names_gives_its_problems(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"q": "2+2=", "a": 4, "why": "so"}\n{"q": "1+1=", "a": 2, "why": "so"}\n')
    source = File(source="file", path=str(path), columns={"prompt": "q", "answer": "a", "reason": "why"})
    problems = [placed.problem for placed in load_problems(source, "train", 0, BadRows(0, print)).problems]
    assert [(p.prompt, p.answer, p.metadata, p.source) for p in problems] == [
        ("2+2=", "4", {"reason": "so"}, "mine"),
        ("1+1=", "2", {"reason": "so"}, "mine"),
    ]


def test_made_problems_are_had_without_pyarrow():
    program = (
        "import sys; import fipo.training, fipo.data.sources\n"
        "assert 'pyarrow' not in sys.modules, 'a run without such a file carries 30 MiB for nothing'"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
