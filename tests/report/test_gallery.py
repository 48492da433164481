import pytest
from tests.report.rollouts import group

from fipo.report.credit_sample import Sample
from fipo.report.gallery import gallery


def sampled(*groups):
    """A sample of one step."""
    count = sum(map(len, groups))
    return Sample(steps={1: list(groups)}, rollouts=count, recorded_rollouts=count, recorded_steps=1)


UP = group(1, "sums/up", log_ratios={1.0: [0.1, 0.1, 0.1], -1.0: [0.05, 0.0, 0.0]})
DOWN = group(1, "sums/down", log_ratios={1.0: [-0.01, 0.0, 0.0], -1.0: [-0.1, -0.1, -0.1]})
BOTH = group(1, "sums/both", log_ratios={1.0: [0.15, 0.0, 0.0], -1.0: [-0.15, 0.0, 0.0]})
STILL = group(1, "sums/still", log_ratios={1.0: [0.001, 0.0], -1.0: [0.0, 0.001]})


def test_the_three_groups_are_the_most_amplified_the_most_attenuated_and_the_widest_of_the_others():
    picks = gallery(sampled(STILL, DOWN, BOTH, UP))
    assert [(one["kind"], one["group"]) for one in picks] == [("amplified", 3), ("attenuated", 1), ("widest", 2)]
    assert picks[0]["mean"] > 1.05 and picks[1]["mean"] < 0.95 and picks[2]["sd"] > 0.03
    assert picks[2]["low"] < 0.9 and picks[2]["high"] > 1.1
    assert all(one["held"] is None for one in picks)


def test_the_most_extreme_response_comes_first_and_then_one_of_the_other_side():
    amplified, attenuated, _ = gallery(sampled(UP, DOWN, BOTH))
    assert amplified["members"] == [0, 1] and attenuated["members"] == [1, 0]


def test_where_a_bound_holds_every_weight_at_1_the_group_is_the_one_that_would_be_below():
    held = [
        [{**record, "influence_weight": [max(1.0, weight) for weight in record["influence_weight"]]} for record in one]
        for one in (UP, DOWN, BOTH)
    ]
    attenuated = gallery(sampled(*held))[1]
    assert (attenuated["kind"], attenuated["group"]) == ("attenuated", 1)
    assert attenuated["low"] == 1 and attenuated["held"] < 0.97


def test_fewer_groups_than_three_are_each_shown_once():
    assert [one["group"] for one in gallery(sampled(UP))] == [0]


@pytest.mark.parametrize(
    "change", [{"influence_weight": [1.0, 1.0]}, {"influence_weight": []}, {"left_out": "filtered"}]
)
def test_there_is_none_where_no_weight_in_the_loss_left_1(change):
    assert gallery(sampled([{**record, **change} for record in STILL])) == []
    assert gallery(sampled()) == []
