import json
from dataclasses import replace

import pytest
import torch

from fipo.objective import FIPOConfig, LossInputs, metric_values, policy_loss, token_credit
from fipo.objective.events import MARKS

CFG = FIPOConfig.release_32b()


def one_response(log_ratios, advantage, cfg=CFG, **changed):
    """The credit of a response whose log-ratios are these, before a row of padding."""
    old = torch.zeros(2, len(log_ratios) + 1, dtype=torch.float64)
    new = old.clone()
    new[0, :-1] = torch.tensor(log_ratios, dtype=torch.float64)
    mask = torch.zeros_like(old, dtype=torch.bool)
    mask[0, :-1] = True
    inputs = LossInputs(
        logprobs=new, old_logprobs=old, advantages=torch.tensor([advantage, 0.0]).double(), loss_mask=mask
    )
    return token_credit(policy_loss(replace(inputs, **changed), cfg), 0)


def test_the_numbers_are_those_of_the_loss_over_the_trained_tokens_to_six_digits(make_inputs):
    inputs = make_inputs(0)
    out = policy_loss(inputs, CFG)
    for row in range(len(inputs.advantages)):
        credit, mask = token_credit(out, row), inputs.loss_mask[row]
        for name, field in [("log_ratio",) * 2, ("future_kl",) * 2, ("influence_weight", "influence_weights")]:
            assert credit[name] == pytest.approx(getattr(out, field)[row][mask].tolist(), rel=1e-5, abs=1e-12)
            assert all(value == float(f"{value:.6g}") for value in credit[name])


def test_marks_are_the_tokens_that_the_metrics_count(make_inputs):
    inputs = make_inputs(3)
    out = policy_loss(inputs, CFG)
    rows = [token_credit(out, row) for row in range(len(inputs.advantages))]
    shares = metric_values(out.metrics())
    counted = {mark: event.key for mark, event in MARKS.items() if event.key is not None}
    assert len(counted) == 6
    for mark, key in counted.items():
        marked = sum(len(row["marks"].get(mark, [])) for row in rows)
        assert marked / int(inputs.loss_mask.sum()) == pytest.approx(shares[key])
    assert sum(bool(row["marks"]) for row in rows) > 3


@pytest.mark.parametrize(
    ("log_ratios", "advantage", "marks"),
    [
        ([0.0, 0.0], 1.0, {}),
        ([0.0, 0.5], 1.0, {"clipped_high": [1], "weight_clipped_high": [0, 1]}),
        ([-0.5, 0.0], -1.0, {"clipped_low": [0], "weight_clipped_low": [0]}),
        ([0.0, 3.0], -1.0, {"dual_clipped": [1], "not_summed": [1]}),
    ],
    ids=["nothing", "clipped above", "clipped below", "stopped by the dual clip"],
)
def test_a_mark_says_what_stopped_or_bounded_a_token(log_ratios, advantage, marks):
    cfg = replace(CFG, dual_clip=10.0, safety_threshold=10.0, influence_clip=(1.0, 1.2))
    assert one_response(log_ratios, advantage, cfg)["marks"] == marks


def test_a_weight_that_the_safety_rule_changed_is_marked_so_and_not_as_clipped():
    cfg = replace(CFG, safety_threshold=2.0, safety_floor=0.8, dual_clip=10.0, influence_clip=(1.0, 1.2))
    assert one_response([0.0, 1.0], -1.0, cfg)["marks"]["safety_capped"] == [1]
    assert one_response([0.0, 1.0], -1.0, cfg)["marks"]["weight_clipped_high"] == [0]


def test_a_response_that_is_not_in_the_loss_says_why():
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    assert one_response([0.0, 0.0], 1.0)["left_out"] is None
    assert one_response([0.0, 0.0], 1.0, loss_mask=nothing)["left_out"] == "masked"
    strict = replace(CFG, dual_clip=10.0, max_dual_clipped_tokens=1)
    assert one_response([3.0, 3.0], -1.0, strict)["left_out"] == "filtered"


def test_what_is_not_finite_is_none_so_that_it_is_still_json():
    credit = one_response([0.0, float("nan")], 1.0)
    assert credit["log_ratio"] == [0.0, None]
    json.dumps(credit, allow_nan=False)
