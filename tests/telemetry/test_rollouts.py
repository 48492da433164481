import json

import pytest
from tests.report.rollouts import group

from fipo.errors import UserError
from fipo.telemetry.lines import whole_lines
from fipo.telemetry.rollouts import KEYS, RolloutLine, line_of, read_rollouts, write_rollouts

HOSTILE = '"response": "mini_batch": 7 \ud800\n'


@pytest.fixture
def path(tmp_path):
    return tmp_path / "step_000003.jsonl"


def test_a_line_has_the_keys_in_their_order_whatever_that_of_the_record():
    (record, _) = group(3)
    line = json.loads(line_of(dict(reversed(record.items()))))
    assert list(line) == [key for key in KEYS if key in record]
    assert line == record


@pytest.mark.parametrize("text", ["7", HOSTILE])
def test_what_is_read_off_an_unparsed_line_is_what_the_record_says(path, text):
    records = [
        one
        for problem in ("sums/1", "sums/2")
        for one in group(3, problem, mini_batch=2, response=text, prompt=text, expected=text)
    ]
    write_rollouts(path, records)
    lines = [RolloutLine(path=path, number=n, text=text) for n, text in enumerate(whole_lines(path), start=1)]
    assert [line.mini_batch for line in lines] == [2] * 4
    assert [line.read() for line in lines] == read_rollouts(path) == records
    heads = [line.head for line in lines]
    assert heads[0] == heads[1] != heads[2] == heads[3]


def test_a_record_without_a_mini_batch_says_so(path):
    write_rollouts(path, [{"step": 3, "prompt": "2+2=", "response": "four"}])
    (text,) = whole_lines(path)
    assert RolloutLine(path=path, number=1, text=text).mini_batch == -1


WRONG = [
    ([], "must be a JSON object, got []"),
    ({"prompt": "2+2="}, "response must be text, got None"),
    ({"response": "4", "problem": 4}, "problem must be text, got 4"),
    ({"response": "4", "tokens": [4]}, "tokens must be a list of texts, got [4]"),
    ({"response": "4", "tokens": ["4"], "log_ratio": ["0"]}, "log_ratio must be a list of finite numbers, got ['0']"),
    (
        {"response": "4", "tokens": ["4"], "future_kl": [0.1, 0.2]},
        "future_kl must have one number for each of the 1 tokens, or none, got 2",
    ),
]


@pytest.mark.parametrize(("record", "message"), WRONG, ids=[message.split()[0] for _, message in WRONG])
def test_a_line_that_is_no_rollout_is_named_with_the_rule_and_the_value(path, record, message):
    path.write_text(json.dumps(record) + "\n")
    with pytest.raises(UserError) as error:
        read_rollouts(path)
    assert str(error.value) == f"{path}, line 1: not a rollout: {message}"
