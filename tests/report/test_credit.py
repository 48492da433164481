import base64
import gzip
import json
import re

import pytest
from tests.report.rollouts import RESOLVED, group

from fipo.errors import UserError
from fipo.report.credit import credit_section
from fipo.telemetry.run_directory import RunDirectory


@pytest.fixture
def make_run(tmp_path):
    def make(name="first", records=(), config=RESOLVED):
        run = RunDirectory(tmp_path / name)
        run.create({"run": {"name": name}, **config})
        steps = {}
        for record in records:
            steps.setdefault(record["step"], []).append(record)
        for step, of_step in steps.items():
            run.write_rollouts(step, of_step)
        return run

    return make


def unpacked(section):
    found = re.findall(r'<script type="text/plain" id="(.*?)">(.*?)</script>', section)
    return {name: json.loads(gzip.decompress(base64.b64decode(text))) for name, text in found}


def test_the_section_says_how_much_of_each_run_is_in_it(make_run):
    long = make_run("long", [record for step in range(1, 9) for record in group(step)])
    section = credit_section({"long": long, "a<b>": make_run("empty")}, budget=2 * 2500)
    counts = re.findall(r"<p class=credit-count>(.*?)</p>", section)
    assert counts == [
        "<b>long</b>: 6 of 16 recorded rollouts, from 3 of 8 steps. The run itself recorded 2 groups a step.",
        "<b>a&lt;b&gt;</b>: no rollouts recorded.",
    ]


def test_a_run_without_rollouts_says_so_and_has_no_browser_of_them(make_run):
    section = credit_section({"first": make_run()})
    assert "no rollouts recorded." in section
    assert "<select" not in section and "<script" not in section


def test_a_step_holds_its_rollouts_as_they_were_recorded(make_run):
    run = make_run(records=[*group(3), *group(3, "sums/2", mini_batch=0)])
    data = unpacked(credit_section({"first": run}))
    assert set(data) == {"credit-0", "credit-0-3"}
    assert [one["problem"] for one in data["credit-0-3"]] == ["sums/1", "sums/2"]
    stored = [response for one in data["credit-0-3"] for response in one["responses"]]
    assert stored == [
        {name: record[name] for name in response} for response, record in zip(stored, run.read_rollouts(3), strict=True)
    ]
    assert {"tokens", "log_ratio", "future_kl", "influence_weight", "marks", "left_out", "advantage"} <= set(stored[0])


def test_the_index_has_a_row_for_each_rollout(make_run):
    index = unpacked(credit_section({"first": make_run(records=group(3))}))["credit-0"]
    first = dict(zip(index["columns"], index["rollouts"][0], strict=True))
    spread = first.pop("spread")
    assert first == {
        "step": 3,
        "group": 0,
        "member": 0,
        "problem": "sums/1",
        "reward": 1.0,
        "outcome": "correct",
        "length": 3,
        "mini_batch": 1,
    }
    weights = group(3)[0]["influence_weight"]
    assert spread == max(weights) - min(weights) > 0


def test_text_from_rollouts_is_in_the_page_as_base64_alone(make_run):
    hostile = "</script><img src=x onerror=alert(1)>"
    records = group(1, hostile, prompt=hostile, response=hostile, answer=hostile, reason=hostile, outcome=hostile)
    assert "onerror" not in credit_section({"first": make_run(records=records)})


def test_dumped_rollouts_without_credit_are_taken(make_run):
    dumped = [{"step": 1, "prompt": "2+2=", "response": text, "expected": "4", "reward": 1.0} for text in ("4", "5")]
    data = unpacked(credit_section({"first": make_run(records=dumped, config={"verl": {"metrics": []}})}))
    assert [one["response"] for one in data["credit-0-1"][0]["responses"]] == ["4", "5"]
    assert data["credit-0"]["rollouts"][0] == [1, 0, 0, "2+2=", 1.0, None, None, None, None]


@pytest.mark.parametrize(
    ("old", "left_out"),
    [
        ({"in_loss": True}, None),
        ({"in_loss": False}, "unknown"),
        ({"in_loss": False, "influence_weight": []}, "masked"),
    ],
)
def test_an_older_run_says_what_it_can_of_what_was_left_out(old, left_out, make_run):
    records = group(1)
    for record in records:
        del record["left_out"], record["marks"]
        record.update(old)
    data = unpacked(credit_section({"first": make_run(records=records)}))
    assert {response["left_out"] for response in data["credit-0-1"][0]["responses"]} == {left_out}


def test_a_bound_that_is_off_is_left_out(make_run):
    run = make_run(records=group(1), config={"resolved": {"objective": {"dual_clip": float("inf"), "clip_low": 0.2}}})
    assert unpacked(credit_section({"first": run}))["credit-0"]["objective"] == {"clip_low": 0.2}


def test_a_damaged_line_is_refused_in_one_line(make_run):
    run = make_run(records=group(1))
    path = run.rollout_files()[1]
    path.write_text("{\n")
    with pytest.raises(UserError) as error:
        credit_section({"first": run})
    assert re.fullmatch(f"{re.escape(str(path))}, line 1: damaged: .*", str(error.value))
