import re

import pytest

from fipo.report.cards import card


def facts(text):
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text))


def cells(text):
    """{label: cells} of the table."""
    rows = re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', text)
    return {label: re.findall(r"<td>(.*?)</td>", rest) for label, rest in rows}


def test_a_card_says_what_the_run_was_and_what_came_of_it(make_run):
    run = make_run(seed=3, preset="release_32b")
    text = card("first", 0, run.read_metrics(), {**run.read_config(), "model": {"path": "embedded"}})
    assert facts(text) == {
        "preset": "release_32b",
        "model": "embedded",
        "seed": "3",
        "steps": "4 of 4",
        "rounding": f"{run.read_metrics()[-1]['fipo/future_kl_noise']:.2g} of the FutureKL",
        "time": "2 min 33 s",  # 4 steps of 15.75 seconds, 3 evaluations of 30
    }
    assert cells(text)["avg@8"] == ["12.5 <span>[6.2, 15.6]</span>", "52.5 <span>[46.2, 55.6]</span>", "+40.0"]
    assert cells(text)["mean response length"] == ["24.2", "32.6", "+8.4"]


def test_a_card_says_how_much_of_the_credit_is_rounding():
    metrics = [{"step": 1, "fipo/future_kl_noise": 0.4}, {"step": 10, "fipo/future_kl_noise": 0.123}, {"step": 11}]
    assert facts(card("half", 0, metrics, {}))["rounding"] == "0.12 of the FutureKL"


def test_a_card_leaves_out_what_the_run_does_not_say(make_run):
    metrics = [{"step": 0, "eval/avg_at_k": 0.25}, {"step": 7, "eval/avg_at_k": 0.5}]
    text = card("verl", 0, metrics, {"run": {"name": "verl"}})
    assert facts(text) == {"steps": "7"}
    assert cells(text) == {"avg@k": ["25.0", "50.0", "+25.0"]}


def test_a_card_of_a_run_without_an_evaluation_says_so():
    assert "No evaluation has been written yet." in card("new", 0, [{"step": 1}], {})


@pytest.mark.parametrize("seconds, shown", [(0.4, "0 min 0 s"), (59.6, "1 min 0 s"), (3600, "1 h 0 min")])
def test_times_are_in_two_units(seconds, shown):
    assert facts(card("a", 0, [{"step": 1, "time/step": seconds}], {}))["time"] == shown
