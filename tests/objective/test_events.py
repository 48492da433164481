from pathlib import Path

import pytest

from fipo.objective import FIPOConfig, policy_loss, token_credit
from fipo.objective.events import COUNTS, EVENTS, MARKS, TABLE, token_events, token_marks


def test_every_row_is_counted_or_marked_under_a_name_of_its_own():
    assert all(event.key or event.mark for event in TABLE)
    assert len(EVENTS) + len(MARKS) == sum(bool(event.key) + bool(event.mark) for event in TABLE)
    assert len(set(COUNTS)) == len(COUNTS) == len(EVENTS) + 3


def test_a_mark_and_a_count_of_one_row_are_the_same_tokens(make_inputs):
    inputs = make_inputs(3, rows=12, noise=0.4, spikes=0.2)
    inputs.logprobs.data[0, inputs.loss_mask[0]] -= 8  # a rewarded response that the policy gave up
    out = policy_loss(inputs, FIPOConfig.release_7b())
    counted, marked = token_events(out.fields, out.config), token_marks(out.fields, out.config)
    for event in TABLE:
        if event.key and event.mark:
            assert counted[event.key].equal(marked[event.mark])
        happened = counted[event.key] if event.key else marked[event.mark]
        assert happened[out.loss_mask].any(), event


def test_what_a_response_is_marked_with_are_rows_of_the_table(make_inputs):
    out = policy_loss(make_inputs(3, rows=12, noise=0.4, spikes=0.2), FIPOConfig.release_7b())
    names = {name for row in range(12) for name in token_credit(out, row)["marks"]}
    assert names == set(MARKS)


@pytest.mark.parametrize("key", EVENTS)
def test_the_documentation_says_of_each_metric_what_its_row_says(key, repository: Path):
    text = (repository / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert f"| `{key}` | share of trained tokens with {EVENTS[key].meaning} |" in text
