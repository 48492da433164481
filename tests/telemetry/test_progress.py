import re

import pytest

from fipo.telemetry.progress import TimeLeft, TrainingProgress

METRICS = {
    "reward/mean": -0.123,
    "accuracy/mean": 0.4385,
    "response_length/mean": 17.6,
    "fipo/influence_weight/mean": 1.0432,
    "time/tokens_per_second": 12345.6,
    "time/generate": 6.1,
    "time/grade": 0.2,
    "time/old_logprobs": 1.0,
    "time/update": 2.7,
}


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
    """Not even one that the environment claims."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def run_steps(steps, metrics=METRICS, first=0):
    with TrainingProgress(steps=steps) as progress:
        progress.phase("loading")
        progress.start(first)
        for step in range(first + 1, steps + 1):
            progress.phase(f"step {step}")
            progress.step(step, metrics)


def test_without_a_terminal_a_step_is_one_plain_line(capsys):
    run_steps(1)
    assert capsys.readouterr().out == (
        "step 1/1  reward -0.12  accuracy 0.44  length 18  mean f 1.043  "
        "12,346 tokens/s (generate 61% grade 2% log-probs 10% update 27%)  0:00:00 left\n"
    )


def test_without_a_terminal_the_first_and_the_last_step_are_shown_and_no_flood_between(capsys):
    run_steps(50)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 1/50", "step 50/50"]


def test_without_a_terminal_there_are_no_control_characters(capsys):
    run_steps(3)
    assert capsys.readouterr().out.replace("\n", "").isprintable()


def test_a_long_line_is_not_broken(capsys):
    with TrainingProgress(steps=1) as progress:
        progress.say("x" * 500)
    assert capsys.readouterr().out == "x" * 500 + "\n"


def test_brackets_in_a_message_are_shown_and_not_taken_for_markup(capsys):
    with TrainingProgress(steps=1) as progress:
        progress.say("clip [red](1.0, 1.2)[/red] [/]")
    assert capsys.readouterr().out == "clip [red](1.0, 1.2)[/red] [/]\n"


def test_an_algorithm_without_influence_weights_has_f_1(capsys):
    run_steps(1, {key: value for key, value in METRICS.items() if not key.startswith("fipo/")})
    assert "mean f 1.000" in capsys.readouterr().out


def test_a_resumed_run_judges_the_time_left_by_its_own_steps(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("fipo.telemetry.progress.time.monotonic", lambda: now[0])
    with TrainingProgress(steps=100) as progress:
        now[0] = 500.0  # loading took long
        progress.start(90)
        now[0] = 520.0  # and then two steps took ten seconds each
        progress.step(92, METRICS)
    assert "0:01:20 left" in capsys.readouterr().out


def test_the_time_left_counts_the_evaluations_that_are_to_come(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("fipo.telemetry.progress.time.monotonic", lambda: now[0])
    with TrainingProgress(steps=20, evaluate_every=10) as progress:
        progress.start(0)
        now[0] += 30  # after step 0
        progress.evaluated(30.0)
        for step in range(1, 11):
            now[0] += 2
            progress.step(step, METRICS)
        now[0] += 40
        progress.evaluated(40.0)
        now[0] += 2
        progress.step(11, METRICS)
    first, *others = [line.rsplit("  ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert first == "0:01:38 left"  # 19 steps of 2 seconds, and 30 after steps 10 and 20 each
    assert others[-1] == "0:00:58 left"  # 9 steps, and the 40 that an evaluation took


def test_a_resumed_run_knows_how_long_an_evaluation_took_before(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("fipo.telemetry.progress.time.monotonic", lambda: now[0])
    with TrainingProgress(steps=20, evaluate_every=10) as progress:
        progress.start(18, 30.0)
        now[0] += 2
        progress.step(19, METRICS)
    assert "0:00:32 left" in capsys.readouterr().out


def test_the_time_left_goes_on_between_two_steps(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("fipo.telemetry.progress.time.monotonic", lambda: now[0])
    left = TimeLeft(10, None)
    assert left.text() == ""
    left.start(0)
    now[0] = 20.0
    left.step(1)
    shown = []
    for second in (20.0, 21.0, 25.0, 500.0):
        now[0] = second
        shown.append(left.text())
    assert shown == ["0:03:00 left", "0:02:59 left", "0:02:55 left", "0:00:00 left"]


def test_lines_come_at_most_every_ten_seconds(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("fipo.telemetry.progress.time.monotonic", lambda: now[0])
    with TrainingProgress(steps=100) as progress:
        progress.start(0)
        for step in range(1, 31):
            now[0] = step * 4.0
            progress.step(step, METRICS)
    shown = [int(line.split()[1].split("/")[0]) for line in capsys.readouterr().out.splitlines()]
    assert shown == list(range(1, 31, 3))


def test_in_a_terminal_a_live_bar_shows_the_step_and_its_figures(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    run_steps(4)
    screen = capsys.readouterr().out
    assert "\x1b[" in screen
    assert "4/4" in screen and "accuracy 0.44" in screen
    assert "step 4/4" not in screen  # no plain lines besides


def test_a_long_phase_says_once_a_minute_that_it_goes_on(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("fipo.telemetry.progress.time.monotonic", lambda: now[0])
    with TrainingProgress(steps=4) as progress:
        progress.phase("evaluating")
        for second in range(150):
            now[0] = float(second)
            progress.beat()
    assert capsys.readouterr().out == "evaluating, 0:01:00 so far\nevaluating, 0:02:00 so far\n"


def test_a_long_phase_says_how_far_it_is(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("fipo.telemetry.progress.time.monotonic", lambda: now[0])
    with TrainingProgress(steps=4) as progress:
        progress.start(0)
        progress.phase("generate")
        for second in range(70):
            now[0] = float(second)
            progress.beat(second, 128)
            progress.beat()  # of a part that cannot tell
    assert capsys.readouterr().out == "generate 60/128, 0:01:00 so far\n"


def test_the_update_counts_on_where_each_mini_batch_enters_it(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("fipo.telemetry.progress.time.monotonic", lambda: now[0])
    with TrainingProgress(steps=4) as progress:
        progress.start(0)
        for mini_batch in range(4):
            progress.phase("update")
            now[0] += 20.0
            progress.beat()
            progress.beat(mini_batch + 1, 4)
    assert capsys.readouterr().out == "update 2/4, 0:01:00 so far\n"


def test_a_quiet_run_shows_nothing(capsys):
    with TrainingProgress(steps=1, quiet=True) as progress:
        progress.say("a note")
        progress.phase("generate")
        progress.step(1, METRICS)
    assert capsys.readouterr() == ("", "")


def test_a_quiet_run_shows_nothing_in_a_terminal_either(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with TrainingProgress(steps=1, quiet=True) as progress:
        progress.say("a note")
        progress.step(1, METRICS)
    assert capsys.readouterr() == ("", "")


def last_shown(capsys):
    """The line that changes, as it stood last."""
    shown = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", capsys.readouterr().out)
    return [line for line in shown.splitlines() if line.strip()][-1]


def at_80_columns(monkeypatch, steps=50, phase="generate", done=96, total=192, **metrics):
    """A TrainingProgress in a terminal, in the midst of a phase after step 17."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("fipo.telemetry.progress.SECONDS_BETWEEN_LOOKS", 0.0)
    with TrainingProgress(steps=steps) as progress:
        progress.start(16)
        progress.step(17, METRICS | metrics)
        progress.phase(phase)
        progress.beat(done, total)


def test_a_terminal_of_80_columns_loses_neither_the_figures_nor_the_time_left_nor_the_phase(monkeypatch, capsys):
    at_80_columns(monkeypatch)
    shown = last_shown(capsys).rstrip()
    assert shown.endswith("17/50 0:00:00 left reward -0.12  accuracy 0.44  length 18  generate 96/192")


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({"phase": "grade", "total": 0}, "length 18  grade"),
        ({"phase": "eval", "done": 10230, "total": 20480}, "length 18  evaluate"),
        ({"steps": 12345, "response_length/mean": 20480.0}, "length 20480  generate"),
    ],
)
def test_what_does_not_fit_is_left_out_and_not_cut(settings, shown, monkeypatch, capsys):
    at_80_columns(monkeypatch, **settings)
    line = last_shown(capsys).rstrip()
    assert "17/" in line and "left reward -0.12  accuracy 0.44" in line and line.endswith(shown) and len(line) <= 80


def test_a_resumed_run_shows_no_step_before_it_knows_which(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    with TrainingProgress(steps=50) as progress:
        progress.phase("loading")
    shown = last_shown(capsys)
    assert "loading" in shown and "/50" not in shown
    with TrainingProgress(steps=50) as progress:
        progress.phase("loading")
        progress.start(17)
    assert "17/50" in last_shown(capsys)
