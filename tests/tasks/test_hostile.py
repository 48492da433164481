"""The corpus of hostile.py through real grading workers."""

import importlib.util
import os
import sys
import time
from pathlib import Path

import pytest

from fipo.tasks.grading_pool import GraderPool
from fipo.tasks.problem import Problem
from fipo.tasks.processes import descendants

SPEC = importlib.util.spec_from_file_location("hostile", Path(__file__).with_name("hostile.py"))
hostile = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(hostile)

DEADLINE = 10.0
DECIDED_WITHIN = 3.0
GYM_TASKS = ("countdown", "simple_integration", "polynomial_multiplication", "spiral_matrix", "coin_flip", "chain_sum")
NUMBERS = {"numbers": [1, 2, 3, 4], "target": 24}

# the grader, the name of the entry, the response, the outcome
CASES = [
    (grader, name, (hostile.FRAMES[grader].format(text) if framed else text), hostile.OUTCOMES[letters[column]])
    for column, grader in enumerate(hostile.GRADERS)
    for framed, entries in ((True, hostile.ANSWERS), (False, hostile.RESPONSES))
    for name, (text, letters) in entries.items()
]


def problems(grader):
    if grader != "reasoning_gym":
        return [Problem(id="test/1", prompt="?", answer="34", source="test", metadata=NUMBERS)]
    reasoning_gym = pytest.importorskip("reasoning_gym")
    metadata = [{"task": task, "index": 0, "seed": 0, "size": 1, "options": {}} for task in GYM_TASKS]
    entries = [reasoning_gym.create_dataset(task, size=1, seed=0)[0] for task in GYM_TASKS]
    return [
        Problem(id=f"test/{row['task']}", prompt=entry["question"], answer=entry["answer"], source="t", metadata=row)
        for row, entry in zip(metadata, entries, strict=True)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The working directory of the trainer and of the workers: where a `touch canary` would leave it."""
    folder, before = tmp_path_factory.mktemp("canaries"), os.getcwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def graded(folder):
    """Grade with the pool of one grader, which is kept for the next entry."""
    pools = {}

    def grade(grader, response):
        if grader not in pools:
            pools[grader] = GraderPool(grader, workers=1, deadline_seconds=DEADLINE, memory_mib=1024), problems(grader)
            pools[grader][0].start()
        pool, asked = pools[grader]
        return pool.grade([(response, problem) for problem in asked]), pool

    yield grade
    for pool, _ in pools.values():
        pool.close()


def sockets(pid):
    return [link for link in Path(f"/proc/{pid}/fd").iterdir() if os.readlink(link).startswith("socket:")]


def test_the_corpus_is_large_and_each_entry_has_an_outcome_for_each_grader():
    assert len(hostile.ANSWERS) + len(hostile.RESPONSES) >= 130
    for _, letters in [*hostile.ANSWERS.values(), *hostile.RESPONSES.values()]:
        assert len(letters) == len(hostile.GRADERS)


@pytest.mark.parametrize(
    ("grader", "response", "outcome"),
    [(grader, response, outcome) for grader, _, response, outcome in CASES],
    ids=[f"{grader}: {name}" for grader, name, _, _ in CASES],
)
def test_a_hostile_answer_gets_its_outcome_quickly_and_changes_nothing(grader, response, outcome, graded, folder):
    graded(grader, "")  # what it prepares of its problems is no part of this
    environment = dict(os.environ)
    started = time.monotonic()
    grades, pool = graded(grader, response)
    assert time.monotonic() - started < DECIDED_WITHIN * len(grades)
    assert {grade.outcome for grade in grades} == {outcome}
    assert list(folder.iterdir()) == []
    assert dict(os.environ) == environment and os.getcwd() == str(folder)
    if sys.platform == "linux":
        workers = [worker.process.pid for worker in pool._workers]
        assert [child for pid in workers for child in descendants(pid)] == []
        assert [socket for pid in workers for socket in sockets(pid)] == []
