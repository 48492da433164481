import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fipo.data.problem import Problem
from fipo.errors import UserError
from fipo.grading.grade import Grade
from fipo.grading.workers.pool import GraderPool
from fipo.grading.workers.system import descendants

HERE = Path(__file__).parent
DEADLINE = 1.5
MARK = f"graded-by-{os.getpid()}-{time.time_ns()}"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")

# what a grader does, what its answer gets, what the reason says
MISDEEDS = [
    ("loop for ever", "timeout", "no grade within 1.5 s"),
    ("hold the gil", "timeout", "no grade within 1.5 s"),
    ("stop itself", "timeout", "no grade within 1.5 s"),
    ("wait for a thread", "timeout", "no grade within 1.5 s"),
    ("fork and loop", "timeout", "no grade within 1.5 s"),
    ("start a program and loop", "timeout", "no grade within 1.5 s"),
    ("fill the memory", "crash", "MemoryError"),
    ("fill the memory at once", "crash", "MemoryError"),
    ("read the address zero", "crash", "the grader's process was killed by SIGSEGV"),
    ("kill itself", "crash", "the grader's process was killed by SIGKILL"),
    ("start a session and read the address zero", "crash", "the grader's process was killed by SIGSEGV"),
    ("write without end into every descriptor", "crash", "the grader's process"),
    ("write numbers into every descriptor", "crash", "the grader's process"),
    ("write brackets into every descriptor", "crash", "the grader's process"),
    ("write half a grade into every descriptor", "crash", "the grader's process"),
    ("grade another answer", "crash", "the grader's process"),
    ("stop the clock for ever", "crash", "the grader's process"),
    ("fork and exit", "crash", "the grader's process exited with status 0"),
    ("fork and sleep in the child", "crash", "the grader left a process behind"),
    ("fork and return twice", "crash", "the grader left a process behind"),
    ("fork and raise in the child", "crash", "the grader left a process behind"),
    ("fork a daemon", "crash", "the grader left a process behind"),
    ("start a program", "crash", "the grader left a process behind"),
    ("print megabytes", "crash", "must return a bool, a number or a Grade, got str"),
    ("close descriptors", "crash", "the grader's process"),
    ("write into every descriptor", "crash", "the grader's process"),
    ("ring later", "crash", "got str"),
    ("move away", "crash", "got str"),
    ("raise an error", "crash", "ValueError: not this one"),
    ("ask to exit", "crash", "SystemExit: 0"),
    ("interrupt", "crash", "KeyboardInterrupt"),
    (
        "return nothing",
        "crash",
        "TypeError: grader 'misbehaving:grade' must return a bool, a number or a Grade, got NoneType",
    ),
    ("return a strange grade", "crash", "a Grade must have one of"),
    ("return a grade of bytes", "crash", "a Grade must have one of"),
]


def problem(number):
    return Problem(id=f"test/{number}", prompt="?", answer=str(number), source="test")


def pool_of(grader, *, workers=2, deadline_seconds=DEADLINE, memory_mib=256):
    return GraderPool(grader, workers=workers, deadline_seconds=deadline_seconds, memory_mib=memory_mib)


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    """The folder of misbehaving.py is the trainer's working directory."""
    monkeypatch.chdir(HERE)


@pytest.fixture(scope="module")
def pool():
    before = os.getcwd()
    os.chdir(HERE)
    os.environ["FIPO_TEST_MARK"] = MARK
    with pool_of("misbehaving:grade") as pool:
        pool.start()
        yield pool
    os.chdir(before)
    del os.environ["FIPO_TEST_MARK"]


def pids_of(pool):
    return {worker.process.pid for worker in pool._workers}


def eventually(condition, seconds=5.0):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


def marked():
    """The workers of this test run, and processes that a grader may have left anywhere on this machine."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if MARK.encode() in entry.read_bytes():
                found.add(int(entry.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(("misdeed", "outcome", "reason"), MISDEEDS, ids=[row[0] for row in MISDEEDS])
def test_a_misdeed_costs_its_own_answer_within_its_deadline_and_no_other(pool, misdeed, outcome, reason):
    others = [(str(number % 3), problem(number % 3 if number % 2 else 7)) for number in range(40)]
    pool.start()
    started = time.monotonic()
    grades = pool.grade([*others[:20], (f"do: {misdeed}", problem(0)), *others[20:]])
    assert time.monotonic() - started < DEADLINE + 4
    guilty = grades.pop(20)
    assert (guilty.outcome, guilty.answer) == (outcome, None)
    assert reason in guilty.reason
    assert [grade.outcome for grade in grades] == ["correct" if number % 2 else "wrong" for number in range(40)]
    assert eventually(lambda: marked() == pids_of(pool))


def test_many_misdeeds_at_once_leave_the_others_as_they_are():
    chosen = [row for row in MISDEEDS if row[1] == "crash"]
    answers = []
    for misdeed, _, _ in chosen:
        answers += [(f"do: {misdeed}", problem(0)), ("5", problem(5)), ("6", problem(5))]
    with pool_of("misbehaving:grade", deadline_seconds=60) as pool:  # a busy machine makes no timeout of a crash
        outcomes = [grade.outcome for grade in pool.grade(answers)]
    assert outcomes == ["crash", "correct", "wrong"] * len(chosen)


def test_a_thread_that_a_grader_leaves_behind_cannot_harm_the_next_answer():
    with pool_of("misbehaving:grade", workers=1) as pool:
        assert pool.grade([("do: leave a thread that kills", problem(0))])[0].correct
        time.sleep(0.5)
        assert pool.grade([("5", problem(5))])[0].correct


def test_grades_come_in_the_order_of_the_answers(pool):
    grades = pool.grade([(str(number % 7), problem(number % 5)) for number in range(1000)])
    assert [grade.correct for grade in grades] == [number % 7 == number % 5 for number in range(1000)]
    assert pool.grade([]) == []


def test_two_workers_share_the_answers(pool):
    pids = {grade.answer for grade in pool.grade([("pid: ", problem(0))] * 64)}
    assert pids == {str(pid) for pid in pids_of(pool)} and len(pids) == 2


def test_a_grader_that_moves_away_is_back_for_the_next_answer():
    with pool_of("misbehaving:grade", workers=1) as pool:
        assert pool.grade([("do: move away", problem(0)), ("cwd: ", problem(0))])[1].answer == str(HERE)


def test_an_alarm_that_a_grader_leaves_does_not_ring_in_the_next_answer():
    with pool_of("misbehaving:grade", workers=1) as pool:
        pool.grade([("do: ring later", problem(0))])
        time.sleep(0.1)
        (pid,) = pids_of(pool)
        assert pool.grade([("pid: ", problem(0))])[0].answer == str(pid)


def test_an_answer_travels_back_shortened(pool):
    assert pool.grade([("long", problem(0))]) == [Grade(outcome="wrong", answer="\ud800" * 1000)]


@pytest.mark.parametrize(
    "response", ["\ud800\udfff \x00\x1b\r\n\u2028\u202e", "", "x" * 5_000_000], ids=["odd", "", "x"]
)
def test_any_text_travels(pool, response):
    assert pool.grade([(response, Problem(id="1", prompt="?", answer=response, source="test"))] * 3)[2].correct


def test_a_deadline_does_not_count_the_start_of_a_worker():
    with pool_of("math", workers=1, deadline_seconds=0.4) as pool:  # its imports take longer
        assert pool.grade([("Answer: $\\frac{1}{2}$", Problem(id="1", prompt="?", answer="0.5", source="test"))])[
            0
        ].correct


def test_a_deadline_does_not_count_what_is_before_an_answer():
    with pool_of("slow_grader:grade", workers=1, deadline_seconds=0.3) as pool:
        assert [grade.outcome for grade in pool.grade([("0.1", problem(0))] * 12)] == ["correct"] * 12


def test_the_stacks_of_a_busy_worker_name_the_line_it_is_at():
    with pool_of("misbehaving:grade", workers=2, deadline_seconds=1) as pool:
        pool.start()
        grading = threading.Thread(target=pool.grade, args=([("do: loop for ever", problem(0))],))
        grading.start()
        time.sleep(0.3)
        stacks = pool.worker_stacks()
        grading.join()
    assert "loop_for_ever" in stacks and stacks.count("grading worker") == 2 and "in main" in stacks


def test_the_stacks_say_of_a_worker_that_does_not_answer_that_it_does_not(monkeypatch):
    monkeypatch.setattr("fipo.grading.workers.pool.STACKS_SECONDS", 0.3)
    with pool_of("misbehaving:grade", workers=1) as pool:
        assert pool.worker_stacks() == "no grading worker is running"
        pool.start()
        (pid,) = pids_of(pool)
        os.kill(pid, signal.SIGSTOP)
        assert pool.worker_stacks() == f"grading worker {pid}: did not answer within 0.3 s"


def test_a_worker_that_dies_between_answers_is_replaced_in_silence(pool):
    for pid in pids_of(pool):
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)
    assert all(grade.correct for grade in pool.grade([("5", problem(5))] * 50))


def test_an_answer_that_never_reached_a_worker_does_not_pay_for_its_death(pool, monkeypatch):
    monkeypatch.setattr("fipo.grading.workers.pool.death_of", lambda pid: None)
    pool.start()
    for pid in pids_of(pool):
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)
    assert all(grade.correct for grade in pool.grade([("5", problem(5))] * 50))


def test_ctrl_c_does_not_reach_the_workers():
    with pool_of("misbehaving:grade", workers=1) as pool:
        pool.start()
        (pid,) = pids_of(pool)
        os.kill(pid, signal.SIGINT)
        assert os.getpgid(pid) != os.getpgid(0)
        assert pool.grade([("pid: ", problem(0))])[0].answer == str(pid)


def test_a_call_that_is_interrupted_leaves_nothing_for_the_next(pool):
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    with pytest.raises(KeyboardInterrupt):
        pool.grade([("do: loop for ever", problem(0))] * 20)
    signal.signal(signal.SIGALRM, previous)
    assert all(grade.correct for grade in pool.grade([("5", problem(5))] * 20))


def test_closing_a_pool_ends_its_workers_and_it_can_be_used_again():
    pool = pool_of("number")
    assert pool.grade([("5", problem(5))])[0].correct
    pids = pids_of(pool)
    pool.close()
    assert not pids & set(descendants(os.getpid())) and not pids_of(pool)
    assert pool.grade([("5", problem(5))])[0].correct
    pool.close()


TRAINER = """
import sys
from fipo.grading.workers.pool import GraderPool
from fipo.data.problem import Problem
pool = GraderPool("misbehaving:grade", workers=2, deadline_seconds=60, memory_mib=256)
pool.grade([(f"{sys.argv[1]}: {sys.argv[2]}", Problem(id="1", prompt="?", answer="", source="test"))])
"""


@pytest.mark.parametrize("action", ["write", "fork and sleep"])
def test_a_trainer_that_is_killed_takes_its_workers_and_what_they_started_with_it(action, tmp_path):
    note = tmp_path / "note"
    trainer = subprocess.Popen([sys.executable, "-c", TRAINER, action, str(note)])
    assert eventually(note.exists, 20)
    workers = descendants(trainer.pid)
    assert len(workers) == (2 if action == "write" else 3)
    trainer.kill()
    trainer.wait()
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


STOPPED = """
from fipo.grading.workers.pool import GraderPool
from fipo.data.problem import Problem
with GraderPool("busy:grade", workers=1, deadline_seconds=2.5, memory_mib=256) as pool:
    pool.start()
    print("ready", flush=True)
    print(pool.grade([("", Problem(id="1", prompt="?", answer="", source="test"))])[0])
"""
BUSY = """
import time
def grade(response, problem):
    until = time.process_time() + 0.8
    while time.process_time() < until:
        pass
    return True
"""


def test_time_in_which_all_was_stopped_is_on_no_answers_deadline(tmp_path):
    (tmp_path / "busy.py").write_text(BUSY)
    trainer = subprocess.Popen([sys.executable, "-c", STOPPED], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert trainer.stdout.readline() == "ready\n"
    time.sleep(0.3)
    pids = [trainer.pid, *descendants(trainer.pid)]
    assert len(pids) == 2
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            os.kill(pid, number)
        time.sleep(3.5 if number == signal.SIGSTOP else 0)
    assert "correct" in trainer.communicate()[0]


@pytest.mark.parametrize(("name", "value"), [("workers", 0), ("deadline_seconds", 0.0), ("memory_mib", -1)])
def test_a_pool_of_nothing_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be > 0, got {value}"):
        pool_of("number", **{name: value})


def test_more_workers_than_the_machine_is_for_are_refused_in_one_line():
    with pytest.raises(UserError, match=r"^grading\.workers must be <= \d+, 16 for each of \d+ cores, got 100000$"):
        pool_of("number", workers=100_000).start()


def printed(limit, *code):
    """What Python prints that runs these lines under `ulimit LIMIT`."""
    script = "\n".join(("from fipo.grading.workers.pool import GraderPool", *code))
    command = ["bash", "-c", f'ulimit {limit}; exec "$@"', "bash", sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def test_more_workers_than_there_may_be_files_open_are_refused_in_one_line():
    pool = 'GraderPool("number", workers=16, deadline_seconds=5, memory_mib=256)'
    said = printed("-n 128", f"try: {pool}.start()", "except Exception as error: print(error)")
    assert said == "grading.workers must be <= 10 where a process may have 128 files open (ulimit -n), got 16"


@pytest.mark.parametrize("blocks", [1, 100])
def test_workers_start_where_files_may_only_be_small(blocks):
    pool = 'GraderPool("fipo.grading.answers.exact:grade_exact", workers=1, deadline_seconds=20, memory_mib=256)'
    said = printed(f"-f {blocks}", f"with {pool} as pool: print(pool.same([('a', 'a'), ('a', 'b')]))")
    assert said == "[True, False]"


def test_a_worker_imports_neither_torch_nor_a_grader_that_is_not_used():
    code = "import sys, fipo.grading.workers.worker as w; w.resolve('dapo'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    unwanted = {"torch", "transformers", "numpy", "sympy", "mpmath", "reasoning_gym", "pyarrow"}
    assert "fipo.grading.grade" in loaded and not unwanted & set(loaded)
