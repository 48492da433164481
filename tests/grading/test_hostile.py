"""The corpus of hostile.py through real grading workers."""

import importlib.util
import os
import sys
import time
from pathlib import Path

import pytest

from fipo.data.problem import Problem
from fipo.grading.workers.pool import GraderPool
from fipo.grading.workers.system import descendants

SPEC = importlib.util.spec_from_file_location("hostile", Path(__file__).with_name("hostile.py"))
hostile = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(hostile)

DEADLINE = 10.0
DECIDED_WITHIN = 3.0
GYM_TASKS = ("countdown", "simple_integration", "polynomial_multiplication", "spiral_matrix", "coin_flip", "chain_sum")
NUMBERS = {"numbers": [1, 2, 3, 4], "target": 24}


def cases(grader):
    """Each entry as (name, response, outcome)."""
    column = hostile.GRADERS.index(grader)
    for name, (text, letters) in hostile.ANSWERS.items():
        yield name, hostile.FRAMES[grader].format(text), hostile.OUTCOMES[letters[column]]
    for name, (response, letters) in hostile.RESPONSES.items():
        yield name, response, hostile.OUTCOMES[letters[column]]


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


def traces(pid):
    """What a worker should not have: processes of its own, and sockets."""
    if sys.platform != "linux":
        return []
    links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    return descendants(pid) + [link for link in links if link.startswith("socket:")]


def test_the_corpus_is_large_and_each_entry_has_an_outcome_for_each_grader():
    assert len(hostile.ANSWERS) + len(hostile.RESPONSES) >= 130
    for _, letters in [*hostile.ANSWERS.values(), *hostile.RESPONSES.values()]:
        assert len(letters) == len(hostile.GRADERS)


@pytest.mark.parametrize("grader", hostile.GRADERS)
def test_every_hostile_answer_gets_its_outcome_quickly_and_changes_nothing(grader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where a `touch canary` would leave it, in the trainer or in a worker
    asked = problems(grader)
    environment = dict(os.environ)
    amiss = []
    with GraderPool(grader, workers=1, deadline_seconds=DEADLINE, memory_mib=1024) as pool:
        pool.grade([("", problem) for problem in asked])  # what it prepares of its problems is no part of this
        for name, response, outcome in cases(grader):
            started = time.monotonic()
            grades = pool.grade([(response, problem) for problem in asked])
            seconds = (time.monotonic() - started) / len(grades)
            if {grade.outcome for grade in grades} != {outcome} or seconds > DECIDED_WITHIN:
                amiss.append((name, outcome, f"{seconds:.1f} s", grades))
            if list(tmp_path.iterdir()) or dict(os.environ) != environment or os.getcwd() != str(tmp_path):
                amiss.append((name, "changed something"))
            amiss += [(name, link) for worker in pool._workers for link in traces(worker.process.pid)]
    assert amiss == []
