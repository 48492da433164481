"""Our graders and DAPO's overlong penalty as reward functions of TRL."""

import datetime
import doctest
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl", reason="TRL is not installed here; make test-trl has an environment with it")

from tests.integrations.trl.helpers import logged, make_trainer

from fipo.errors import UserError
from fipo.integrations import trl
from fipo.integrations.trl import grader_reward, overlong_penalty
from fipo.integrations.trl.rewards import GraderReward
from fipo.training.reward import overlong_penalty as ours

FORKS = """
import os, sys
from fipo.integrations.trl import grader_reward

def graded():
    return reward(prompts=["?"] * 2, completions=["1", "2"], answer=["1", "1"])

reward = grader_reward("number", workers=1)
assert graded() == [1.0, -1.0]
parents = [worker.process.pid for worker in reward.pool()._workers]
child = os.fork()
assert graded() == [1.0, -1.0]
if child == 0:
    sys.exit(0)  # with all that it does at exit
assert os.waitpid(child, 0)[1] == 0
assert graded() == [1.0, -1.0]
assert [worker.process.pid for worker in reward.pool()._workers] == parents
"""


@pytest.fixture
def misbehaving(repository: Path, monkeypatch: pytest.MonkeyPatch) -> GraderReward:
    """The grader of tests/grading/workers/misbehaving.py, as a user's own: a module of the working directory."""
    monkeypatch.chdir(repository / "tests" / "grading" / "workers")
    monkeypatch.syspath_prepend(".")
    return grader_reward("misbehaving:grade", deadline_seconds=1.0, memory_mib=256)


def test_a_grader_rewards_text_and_messages_by_the_answer_column() -> None:
    reward = grader_reward("number")
    completions = ["It is 12.", "13", [{"role": "assistant", "content": "so 12"}], "none"]
    given = reward(prompts=["?"] * 4, completions=completions, answer=["12"] * 4, completion_ids=[[1]] * 4)
    assert given == [1.0, -1.0, 1.0, -1.0]
    assert reward.__name__ == "number_accuracy"


def test_other_columns_reach_the_grader_whatever_they_hold() -> None:
    dates = [datetime.date(2026, 1, 1)]
    assert grader_reward("number")(prompts=["?"], completions=["1"], answer=["1"], date=dates) == [1.0]


def test_a_grader_that_hangs_or_dies_costs_its_answer_alone_and_is_counted(
    misbehaving: GraderReward, caplog: pytest.LogCaptureFixture
) -> None:
    shares: dict[str, float] = {}
    completions = ["12", "do: loop for ever", "do: kill itself", "13"]
    given = misbehaving(prompts=["?"] * 4, completions=completions, answer=["12"] * 4, log_metric=shares.__setitem__)
    assert given == [1.0, 0.0, 0.0, -1.0]
    assert shares == {
        "grade/correct": 0.25,
        "grade/wrong": 0.25,
        "grade/no_answer": 0.0,
        "grade/timeout": 0.25,
        "grade/crash": 0.25,
    }
    assert "2 grades failed, the first on problem 1: timeout (no grade within 1 s)" in caplog.text
    assert misbehaving.failed == 2


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_a_failed_grade_is_no_success_for_dynamic_sampling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first prompt has crashes and wrong answers: nothing to learn, as in our own trainer."""
    (tmp_path / "short_list.py").write_text(
        'def grade(response, problem):\n    return {"w4": True, "w3": False}[response]'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(".")
    crash, wrong, correct = [2, 1], [3, 1], [4, 1]
    trainer = make_trainer(
        tmp_path,
        {"w5": [crash, wrong] * 2, "w6": [correct, wrong] * 2},
        rewards=grader_reward("short_list:grade"),
        mini_batches=2,
        max_steps=2,
        max_generation_batches=1,
    )
    trainer.train()
    log, _ = logged(trainer)
    assert (log["groups/all_wrong"], log["groups/kept"]) == (1, 1)
    assert log["grade/crash"] == log["grade/correct"] == 0.25
    assert log["grade/failed"] == 2


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("dynamic_sampling", [True, False])
def test_a_group_with_a_failed_grade_is_dropped_where_the_user_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dynamic_sampling: bool
) -> None:
    (tmp_path / "short_list_again.py").write_text(
        'def grade(response, problem):\n    return {"w4": True, "w3": False}[response]'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(".")
    crash, wrong, correct = [2, 1], [3, 1], [4, 1]
    trainer = make_trainer(
        tmp_path,
        {"w5": [crash, wrong, correct, wrong], "w6": [correct, wrong] * 2},
        rewards=[
            grader_reward("short_list_again:grade", on_failure="drop_group"),
            overlong_penalty(8, buffer=2),
        ],
        mini_batches=2,
        max_steps=2,
        max_generation_batches=1,
        dynamic_sampling=dynamic_sampling,
    )
    trainer.train()
    log, _ = logged(trainer)
    assert log["grade/failed"] == 1
    if dynamic_sampling:
        assert (log["groups/generated"], log["groups/kept"]) == (2, 1)
    else:
        assert (trainer._advantages() == 0).view(2, 4).all(dim=1).sum() == 1


def test_a_fork_leaves_its_parents_workers_alone() -> None:
    subprocess.run([sys.executable, "-c", FORKS], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, timeout=120)


def test_a_missing_answer_column_is_named() -> None:
    with pytest.raises(ValueError, match="the dataset must have the column 'solution', got answer"):
        grader_reward("number", answer_column="solution")(prompts=["?"], completions=["1"], answer=["1"])


def test_an_unknown_grader_is_refused() -> None:
    with pytest.raises(UserError, match="must be one of number"):
        grader_reward("numbr")


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="deadline_seconds must be > 0, got 0"):
        grader_reward("number", deadline_seconds=0)


@pytest.mark.parametrize("buffer", [0, 7, 20])
def test_the_overlong_penalty_is_our_own(buffer: int) -> None:
    penalty = overlong_penalty(20, buffer=buffer)
    lengths = range(21)
    assert penalty(completion_ids=[[5] * n for n in lengths]) == [ours(n, 20, buffer) for n in lengths]


def test_a_buffer_longer_than_the_completion_is_refused() -> None:
    with pytest.raises(ValueError, match=r"buffer must be in \[0, 20\] tokens, got 21"):
        overlong_penalty(20, buffer=21)


@pytest.mark.parametrize("name", trl.__all__)
def test_the_example_in_the_help_of_a_public_name_runs(name):
    found = getattr(trl, name)
    [example] = doctest.DocTestFinder(recurse=False).find(found, name, globs=vars(inspect.getmodule(found)).copy())
    said = []
    failed, tried = doctest.DocTestRunner(verbose=False).run(example, out=said.append)
    assert tried and not failed, "".join(said)
