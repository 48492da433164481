import re
from pathlib import Path

import pytest

reasoning_gym = pytest.importorskip("reasoning_gym")

from reasoning_gym.arithmetic.calendar_arithmetic import CalendarTask  # noqa: E402
from reasoning_gym.factory import DATASETS  # noqa: E402

from fipo.data.problem import Problem  # noqa: E402
from fipo.grading.answers.gym import ReasoningGymGrader, grade_reasoning_gym  # noqa: E402
from fipo.grading.answers.gym_guards import GUARDS, is_formula  # noqa: E402
from fipo.grading.workers.pool import GraderPool  # noqa: E402

# Places of the installed package that evaluate text or look names up, at reasoning-gym 0.1.25. Where one of them is
# new, read whether a model's answer can reach it, guard its task in gym_guards.py, and only then add it here.
EVALUATES = re.compile(
    r"\b(parse_expr|parse_latex|sympify|nsimplify|lambdify|eval|exec|literal_eval|compile|getattr|__import__"
    r"|import_module|system|popen|Popen|run|unpickle)\("
)
GUARDED = {
    "algebra/intermediate_integration.py": 2,
    "algebra/polynomial_multiplication.py": 2,
    "algebra/simple_integration.py": 2,
    "algorithmic/binary_matrix.py": 1,
    "algorithmic/spiral_matrix.py": 1,
    "algorithmic/string_insertion.py": 1,
    "games/countdown.py": 1,
    "games/n_queens.py": 1,
    "games/puzzle24.py": 1,
}
NO_ANSWER_REACHES = {  # text of the package's own
    "algorithmic/number_sorting.py": 1,
    "arc/rearc_utils/utils.py": 2,
    "arithmetic/basic_arithmetic.py": 1,
    "arithmetic/bitwise_arithmetic.py": 2,
    "arithmetic/gsm_symbolic/generators_00_49.py": 1,
    "arithmetic/gsm_symbolic/generators_50_99.py": 1,
    "arithmetic/gsm_symbolic/gsm_symbolic.py": 2,
    "code/bf.py": 1,
    "code/codeio.py": 1,
    "code/contrib/bfit/BF-it.py": 1,
    "code/contrib/bfit/Compiler/Compiler.py": 3,
    "induction/list_functions/list_functions.py": 1,
    "logic/propositional_logic.py": 5,  # a parser of its own by that name
}


def entry_and_problem(task, index=0, **options):
    entry = reasoning_gym.create_dataset(task, size=20, seed=3, **options)[index]
    metadata = {"task": task, "index": index, "seed": 3, "size": 20, "options": options}
    return entry, Problem(
        id="test/1", prompt=entry["question"], answer=str(entry["answer"]), source="test", metadata=metadata
    )


def outcome(answer, problem):
    return grade_reasoning_gym(f"So.\n<answer>{answer}</answer>", problem).outcome


def test_no_other_place_of_the_installed_package_evaluates_text_than_those_that_were_read():
    package = Path(reasoning_gym.__file__).parent
    found = {}
    for path in package.rglob("*.py"):
        places = [line for line in path.read_text().splitlines() if EVALUATES.search(line) and "re.compile" not in line]
        if places:
            found[path.relative_to(package).as_posix()] = len(places)
    assert found == GUARDED | NO_ANSWER_REACHES


@pytest.mark.parametrize("task", sorted(set(GUARDS) | {"chain_sum", "word_sorting", "simple_geometry"}))
def test_the_answer_of_an_entry_is_correct_and_another_is_wrong(task):
    entry, problem = entry_and_problem(task)
    assert outcome(entry["answer"], problem) == "correct"
    assert grade_reasoning_gym(str(entry["answer"]), problem).correct  # without tags
    assert grade_reasoning_gym(f"Answer: {entry['answer']}", problem).correct
    assert outcome("x", problem) == "wrong"
    assert outcome("", problem) == "no_answer"


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted(set(DATASETS) - {"composite", "rubiks_cube", "knight_swap", "sokoban"}))
def test_the_answer_of_every_task_is_correct(task):
    for index in range(5):
        entry, problem = entry_and_problem(task, index)
        if entry["answer"] is not None and "Integral" not in entry["answer"]:
            assert outcome(entry["answer"], problem) == "correct"
            assert outcome("\u0663 no", problem) == "wrong"


# Answers that the package's own scorers take for right.
FOOLED = [
    ("complex_arithmetic", {}, "nan"),
    ("complex_arithmetic", {}, "1+nanj"),
    ("game_of_life_halting", {}, "anything"),
    ("coin_flip", {}, "0"),
    ("puzzle24", {}, "6*4*1*1"),  # of other numbers
    ("intermediate_integration", {}, "{integral}"),
]


@pytest.mark.parametrize(("task", "options", "answer"), FOOLED, ids=[f"{row[0]} {row[2]}" for row in FOOLED])
def test_an_answer_that_only_fools_the_scorer_is_wrong(task, options, answer):
    entry, problem = entry_and_problem(task, **options)
    integrand = entry["metadata"].get("integrand")
    answer = answer.format(integral=f"Integral({integrand}, x)")
    dataset = reasoning_gym.create_dataset(task, size=20, seed=3, **options)
    assert dataset.score_answer(answer, entry) >= 1.0
    assert outcome(answer, problem) == "wrong"


def test_any_number_is_wrong_where_the_right_one_is_negative():
    grader = ReasoningGymGrader()
    _, problem = entry_and_problem("calendar_arithmetic")
    entry = {
        "question": problem.text,
        "answer": "-1",
        "metadata": {"task": CalendarTask.RECURRING_EVENT_CALCULATIONS.value},
    }
    grader.prepare(problem)
    grader._entries = {key: entry for key in grader._entries}
    dataset = reasoning_gym.create_dataset("calendar_arithmetic", size=1, seed=0)
    assert dataset.score_answer("7", entry) >= 1.0
    assert not grader("7", problem).correct and grader("-1", problem).correct


def test_partial_credit_is_wrong():
    entry, problem = entry_and_problem("gcd")
    padded = f"it is {entry['answer']}, I think"
    dataset = reasoning_gym.create_dataset("gcd", size=20, seed=3)
    assert 0 < dataset.score_answer(padded, entry) < 1
    assert outcome(padded, problem) == "wrong"


@pytest.mark.parametrize("task", sorted(GUARDS))
@pytest.mark.parametrize("form", ["{}", "[{}]", "({},)[0]", "1+{}", "x.__class__({})"])
def test_code_in_an_answer_does_not_run(task, form, tmp_path):
    _, problem = entry_and_problem(task)
    trace = tmp_path / "trace"
    code = form.format(f"__import__('pathlib').Path({str(trace)!r}).touch()")
    assert outcome(code, problem) == "wrong"
    assert not trace.exists()


FORMULAS = [
    "x",
    "2*X**6 + 7*X**4 + C",
    "-3*x**2/4 + exp(2*x)*sin(x)/5",
    "sqrt(1 - 9*x**2)/3 + pi*asin(3*x)",
    "(4*x + 2)**(3/2)/3",
    "(x**2)**(-1/2)",
    "0.5*x**-2",
    "+".join(["x"] * 200),
]
NO_FORMULAS = [
    "",
    " ",
    "__import__('os').system('true')",
    "x.diff()",
    "x.func",
    "lambda: x",
    "Integral(x, x)",
    "Symbol(x)",
    "S(x)",
    "S",
    "N",
    "sin",
    "sin()",
    "sin(x, x)",
    "sin(x=x)",
    "sin(*x)",
    "eval(x)",
    "x**99",
    "x**y",
    "x**(2*y)",
    "9**9**9",
    "2**(3/9999999)",
    "((x**20)**20)**20",
    "1000000000000000000000*x",
    "(" * 200 + "x" + ")" * 200,
    "-" * 100 + "x",
    "sin(" * 40 + "x" + ")" * 40,
    "x" * 2,
    "x" + "+x" * 400,
    "x^2",
    "x!",
    "x = 2",
    "x; y",
    "x\ny",
    "x[0]",
    "{x}",
    "x // 2",
    "x @ y",
    "x if x else x",
    "f'{x}'",
    "'x'",
    "x\u00b2",
    "\u0445",  # CYRILLIC SMALL LETTER HA
    "1j",
    "1_0",
    "1e9",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_may_be_parsed(text):
    assert is_formula(text)


@pytest.mark.parametrize("text", NO_FORMULAS)
def test_nothing_else_may(text):
    assert not is_formula(text)


def test_a_problem_that_this_version_makes_otherwise_is_an_error():
    entry, problem = entry_and_problem("puzzle24")
    other = Problem(id="1", prompt="Another?", answer="", source="test", metadata=problem.metadata)
    with pytest.raises(ValueError, match="reasoning_gym makes another question of"):
        grade_reasoning_gym(entry["answer"], other)


def test_a_mixture_of_tasks_is_an_error_because_its_parts_would_run_unguarded():
    _, problem = entry_and_problem("gcd")
    metadata = problem.metadata | {"task": "composite"}
    with pytest.raises(ValueError, match="'composite' is not graded"):
        grade_reasoning_gym("1", Problem(id="1", prompt="?", answer="", source="test", metadata=metadata))


def test_what_a_scorer_writes_into_its_entry_does_not_reach_the_next_answer(monkeypatch):
    """That of knight_swap does."""

    class Writer:
        def score_answer(self, answer, entry):
            entry["metadata"]["written"] = answer
            return 1.0

    _, problem = entry_and_problem("chain_sum")
    grader = ReasoningGymGrader()
    grader.prepare(problem)
    before = repr(grader._entries)
    monkeypatch.setattr("fipo.grading.answers.gym._dataset", lambda problem: Writer())
    assert grader("1", problem).correct
    assert repr(grader._entries) == before


def test_few_entries_are_kept(monkeypatch):
    monkeypatch.setattr("fipo.grading.answers.gym.ENTRIES", 3)
    grader = ReasoningGymGrader()
    for index in range(6):
        grader("1", entry_and_problem("gcd", index)[1])
    assert len(grader._entries) == 3


def test_a_deadline_does_not_count_the_making_of_a_dataset():
    entry, problem = entry_and_problem("arc_agi")  # takes more than a second
    with GraderPool("reasoning_gym", workers=1, deadline_seconds=0.5, memory_mib=256) as pool:
        grades = pool.grade([(f"<answer>{entry['answer']}</answer>", problem), ("<answer>0</answer>", problem)])
    assert [grade.outcome for grade in grades] == ["correct", "wrong"]


def test_questions_that_another_process_would_make_otherwise_are_graded_all_the_same():
    tasks = ("isomorphic_strings", "ransom_note", "polynomial_multiplication", "list_functions")
    pairs = [entry_and_problem(task, index) for task in tasks for index in range(10)]
    with GraderPool("reasoning_gym", workers=1, deadline_seconds=5, memory_mib=256) as pool:
        grades = pool.grade([(f"<answer>{entry['answer']}</answer>", problem) for entry, problem in pairs])
    assert all(grade.correct for grade in grades)
