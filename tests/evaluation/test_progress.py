import re

from fipo.evaluation.progress import EvalProgress


def test_where_output_is_a_file_a_line_says_rate_and_time_left_now_and_then(capsys):
    with EvalProgress() as progress:
        progress.start(2, 6)
        progress.tokens(100)
        progress.answered(1)
        assert capsys.readouterr().out == ""  # not so soon
        progress.started = progress.last_line = progress.last_line - 50
        progress.tokens(100)
        progress.answered(1)
    assert re.fullmatch(r"3/6 samples  4 tokens/s  0:02:30 left\n", capsys.readouterr().out)


def test_what_is_said_stays_as_it_is(capsys):
    with EvalProgress() as progress:
        progress.say("[model] \ud800 is not markup")
    assert capsys.readouterr().out == "[model] \\ud800 is not markup\n"
