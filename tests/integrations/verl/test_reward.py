"""The reward function needs none of verl: it is our grader pool under verl's names."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest

from fipo.data.problem import Problem
from fipo.errors import UserError
from fipo.grading.workers.pool import GraderPool
from fipo.integrations import shared
from fipo.integrations.verl.reward import Desk, compute_score


def score(response, truth="7", **kwargs):
    return compute_score("math", response, truth, {"index": 3}, **kwargs)


def test_the_last_answer_line_decides_and_every_outcome_is_named():
    right = score("Answer: 3\nAnswer: $7$")
    assert (right["score"], right["acc"], right["pred"], right["outcome"]) == (1.0, 1.0, "7", "correct")
    wrong = score("Answer: 8")
    assert (wrong["score"], wrong["acc"], wrong["pred"], wrong["outcome"]) == (-1.0, 0.0, "8", "wrong")
    none = score("seven")
    assert (none["score"], none["pred"], none["outcome"], none["grade/failed"]) == (-1.0, "", "no_answer", 0.0)


def test_another_grader_is_chosen_by_its_name():
    assert score(r"so \boxed{2x+2}", "2(x+1)", grader="math")["outcome"] == "correct"
    assert score("it is 7.0", grader="number")["outcome"] == "correct"
    with pytest.raises(UserError, match="grader: must be one of number"):
        score("7", grader="numbers")


@pytest.mark.parametrize("truth", [204, 204.0, "204", numpy.float64(204), numpy.int64(204)])
def test_a_right_answer_that_became_a_float_is_the_whole_number_that_it_was(truth):
    assert score("Answer: 204", truth)["outcome"] == "correct"


@pytest.mark.parametrize("truth", [None, True, float("nan"), ["204"], numpy.array(["204"])])
def test_a_right_answer_that_is_none_is_a_failed_grade_that_says_so(truth):
    result = score("Answer: 204", truth)
    assert (result["outcome"], result["score"], result["grade/failed"]) == ("crash", 0.0, 1.0)
    assert result["reason"].startswith("ground_truth must be ")


def test_a_grader_that_hangs_is_a_timeout_which_pays_nothing(tmp_path, monkeypatch, caplog):
    (tmp_path / "slow_for_verl.py").write_text("import time\n\ndef grade(response, problem):\n    time.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    slow = {"grader": "slow_for_verl:grade", "deadline_seconds": 0.5}
    result = score("7", **slow)
    assert (result["outcome"], result["score"], result["grade/failed"]) == ("timeout", 0.0, 1.0)
    assert "no grade within 0.5 s" in result["reason"]
    assert "1 grades failed, the first on problem 3: timeout (no grade within 0.5 s)" in caplog.text


def test_a_key_that_nothing_reads_is_refused():
    with pytest.raises(ValueError, match="unknown keys: deadline"):
        score("7", deadline=3)


def test_what_a_parquet_row_carries_reaches_the_grader_as_json(tmp_path, monkeypatch):
    numpy = pytest.importorskip("numpy")
    (tmp_path / "meta_for_verl.py").write_text(
        "def grade(response, problem):\n    return problem.metadata == {'index': 3, 'list': [1, 2], 'none': None}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    extra = {"index": numpy.int64(3), "list": numpy.array([1, 2]), "none": None}
    assert compute_score("math", "x", "7", extra, grader="meta_for_verl:grade")["outcome"] == "correct"


def test_many_threads_share_one_pool_and_each_gets_its_own_grade():
    desk = Desk(GraderPool("number", workers=1, deadline_seconds=5, memory_mib=512))
    outcomes = {}

    def grade(i):
        problem = Problem(id=str(i), prompt="", answer=str(i), source="test")
        outcomes[i] = desk.grade(f"{i if i % 3 else i + 1}", problem).outcome

    threads = [threading.Thread(target=grade, args=(i,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {i: "correct" if i % 3 else "wrong" for i in range(40)}
    began = time.monotonic()
    desk.close()
    assert time.monotonic() - began < 5


def test_threads_that_come_at_once_open_one_pool(monkeypatch):
    opened = []

    def slowly(*arguments, **limits):
        opened.append(arguments)
        time.sleep(0.2)  # the other threads arrive meanwhile
        return GraderPool(*arguments, **limits)

    monkeypatch.setattr(shared, "GraderPool", slowly)
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: score("it is 7", grader="number", deadline_seconds=9.0), range(4)))
    assert [result["outcome"] for result in results] == ["correct"] * 4
    assert len(opened) == 1
