import pytest
from tests.report.rollouts import group

from fipo.report.credit_sample import Sample
from fipo.report.credit_tokens import ranked_tokens


def sampled(*groups):
    steps = {}
    for one in groups:
        steps.setdefault(one[0]["step"], []).append(one)
    count = sum(map(len, groups))
    return Sample(steps=steps, rollouts=count, recorded_rollouts=count, recorded_steps=len(steps))


def weighted(step, weights, mini_batch=1, **changes):
    """A group of one response whose tokens a, b, ... have these weights."""
    tokens = [chr(ord("a") + i) for i in range(len(weights))]
    values = {"log_ratio": [0.0] * len(weights), "future_kl": weights, "influence_weight": weights}
    return group(
        step,
        log_ratios={1.0: weights},
        mini_batch=mini_batch,
        **{"tokens": tokens, "left_out": None, **values, **changes},
    )


def test_single_tokens_are_ranked_by_weight_one_of_a_response_with_their_place_and_context():
    ranked = ranked_tokens(sampled(weighted(1, [1.0, 1.1, 1.2]), weighted(2, [0.9, 1.15, 0.8])))
    amplified, attenuated = ranked["amplified"]["single"], ranked["attenuated"]["single"]
    assert [(one["step"], one["position"], one["influence_weight"]) for one in amplified] == [(1, 2, 1.2), (2, 1, 1.15)]
    assert [(one["step"], one["position"], one["influence_weight"]) for one in attenuated] == [(2, 2, 0.8)]
    assert [amplified[1][name] for name in ("before", "token", "after")] == ["a", "b", "c"]


def test_a_token_is_ranked_by_its_mean_if_it_occurs_often_enough():
    ranked = ranked_tokens(sampled(*(weighted(step, [1.0, 1 + step / 10, 0.9]) for step in range(1, 6))))
    by_token = ranked["amplified"]["by_token"]
    assert by_token == [{"token": "b", "n": 5, "mean": pytest.approx(1.3), "min": 1.1, "max": 1.5}]
    assert [row["token"] for row in ranked["attenuated"]["by_token"]] == ["c"]
    fewer = ranked_tokens(sampled(*(weighted(step, [1.0, 1.1, 0.9]) for step in range(1, 5))))
    assert fewer["amplified"]["by_token"] == [] and fewer["attenuated"]["by_token"] == []


def test_parts_of_characters_which_look_alike_have_no_common_mean():
    ranked = ranked_tokens(sampled(*(weighted(step, [1.2, 1.1], tokens=["\ufffd", "b"]) for step in range(1, 6))))
    assert [row["token"] for row in ranked["amplified"]["by_token"]] == ["b"]
    assert ranked["amplified"]["single"][0]["token"] == "\ufffd"


def test_only_responses_in_the_loss_of_the_last_mini_batch_count():
    ranked = ranked_tokens(
        sampled(
            weighted(1, [2.0], mini_batch=0),
            weighted(1, [2.0], left_out="filtered"),
            weighted(1, [1.1]),
            weighted(2, [], left_out="masked"),
        )
    )
    assert (ranked["mini_batch"], ranked["responses"]) == (1, 1)
    assert [one["influence_weight"] for one in ranked["amplified"]["single"]] == [1.1]


def test_the_future_kl_ranks_tokens_at_one_bound():
    groups = [weighted(step, [1.2], future_kl=[kl]) for step, kl in ((1, 0.3), (2, 0.5), (3, 0.4))]
    single = ranked_tokens(sampled(*groups))["amplified"]["single"]
    assert [one["future_kl"] for one in single] == [0.5, 0.4, 0.3]


def test_rollouts_without_credit_rank_nothing():
    ranked = ranked_tokens(sampled([{"step": 1, "prompt": "a", "response": "b"}]))
    assert ranked["mini_batch"] is None and ranked["amplified"] == {"by_token": [], "single": []}
