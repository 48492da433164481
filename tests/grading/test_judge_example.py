"""examples/judge.py in a grading worker, against a server on this machine."""

import json
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fipo.data.problem import Problem
from fipo.grading.outcomes import reward_of
from fipo.grading.workers.pool import GraderPool

asked: list[str] = []  # of the judge


class Judge(BaseHTTPRequestHandler):
    """Says 7 or 10; is busy at first, refuses, is silent or rambles, as the response wants it."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = body["messages"][0]["content"]
        asked.append(question)
        if "silent" in question:
            time.sleep(3)
        busy = "busy" in question and asked.count(question) == 1
        said = "10" if "perfect" in question else "no idea" if "strange" in question else "7"
        content = json.dumps({"choices": [{"message": {"content": said}}]}).encode()
        try:
            self.send_response(503 if busy else 400 if "refused" in question else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:  # nobody waits any more
            pass

    def log_message(self, *_):
        pass


@pytest.fixture
def graded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path):
    asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    shutil.copy(repository / "examples" / "judge.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUDGE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("JUDGE_DEADLINE", "1.2")
    problem = Problem(id="1", prompt="Why?", answer="So.", source="test")
    with GraderPool("judge:grade", workers=2, deadline_seconds=10, memory_mib=512) as pool:
        yield lambda *responses: pool.grade([(response, problem) for response in responses])
    server.shutdown()
    server.server_close()


def test_a_judge_gives_a_number_and_is_asked_once_for_the_same_response(graded):
    grades = graded("good", "perfect")
    assert [(grade.outcome, reward_of(grade)) for grade in grades] == [("wrong", 0.7), ("correct", 1.0)]
    assert [reward_of(grade) for grade in graded("perfect", "good")] == [1.0, 0.7]
    assert len(asked) == 2 and "Why?" in asked[0] and "So." in asked[0]


def test_a_judge_that_fails_for_a_while_is_asked_again(graded):
    assert [reward_of(grade) for grade in graded("busy")] == [0.7]
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("refused", "ValueError: the judge refuses: 400 Bad Request"),
        ("strange", "ValueError: the judge must answer with a number from 0 to 10, got 'no idea'"),
        ("silent", "TimeoutError: no answer of the judge at http://127.0.0.1:"),
    ],
)
def test_a_judge_without_a_verdict_is_a_failed_grade_that_says_why(response, reason, graded):
    (grade,) = graded(response)
    assert grade.outcome == "crash" and grade.reason.startswith(reason)
