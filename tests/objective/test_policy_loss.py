import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fipo.objective import (
    AGGREGATIONS,
    ALGORITHMS,
    FIPOConfig,
    LossInputs,
    metric_values,
    policy_loss,
)
from fipo.objective.surrogates import Clipped

REPEATABLE = settings(derandomize=True, deadline=None, database=None, max_examples=25)
SEEDS = st.integers(0, 10_000)
LONGEST = 32
OPTIONS = {name: {"aggregation": name, "longest": LONGEST} for name in AGGREGATIONS}
CFG = FIPOConfig.release_7b()


def oracle(inputs, cfg, aggregation):
    """The equations of the paper and of the released filter, token by token in plain Python."""
    c, gamma = cfg.dual_clip, 2.0 ** (-1.0 / cfg.half_life)
    low, high = cfg.influence_bounds
    sums, means, tokens, rows = [], [], 0, 0
    for lp, old, advantage, mask in zip(
        inputs.logprobs.tolist(),
        inputs.old_logprobs.tolist(),
        inputs.advantages.tolist(),
        inputs.loss_mask.tolist(),
        strict=True,
    ):
        log_ratio = [max(-20.0, min(20.0, a - b)) for a, b in zip(lp, old, strict=True)]
        losses, stopped = [], 0
        for t in (t for t, m in enumerate(mask) if m):
            ratio = math.exp(log_ratio[t])
            future = [k for k in range(t, len(mask)) if mask[k] and math.exp(log_ratio[k]) <= c]
            f = math.exp(sum(gamma ** (k - t) * log_ratio[k] for k in future))
            f = max(low, min(high, f))
            if advantage < 0 and ratio > cfg.safety_threshold:
                f = max(cfg.safety_floor, min(1.0, f))
            weighted = advantage * f
            clipped_ratio = max(1 - cfg.clip_low, min(1 + cfg.clip_high, ratio))
            loss = max(-weighted * ratio, -weighted * clipped_ratio)
            if weighted < 0 and loss > -weighted * c:
                loss, stopped = -weighted * c, stopped + 1
            losses.append(loss)
        rows += bool(losses)
        if cfg.max_dual_clipped_tokens is not None and stopped > cfg.max_dual_clipped_tokens:
            continue
        sums.append(sum(losses))
        means.append(sum(losses) / len(losses) if losses else 0.0)
        tokens += len(losses)
    return {
        "token-mean": sum(sums) / max(tokens, 1),
        "seq-mean-token-mean": sum(means) / max(rows, 1),
        "seq-mean-token-sum": sum(sums) / max(rows, 1),
        "seq-mean-token-sum-norm": sum(sums) / max(rows, 1) / LONGEST,
    }[aggregation]


def test_a_hand_worked_batch():
    """Two responses, half-life 1, bounds (0.5, 4), c = 5; ratios 2, 1 | 4, 8.

    Row 0, A = 1: f = 4^(1/2 * 0) * 2 = 2 and 1. l = -2 * min(2, 1.28) = -2.56 and -1.
    Row 1, A = -1: 8 > 5 takes no part, so f = 4 and 1; 4 and 8 exceed the safety threshold 3, so f = 1 and 1.
    l = 4, then min(8, 5) = 5.
    """
    ratio = torch.tensor([[2.0, 1.0], [4.0, 8.0]], dtype=torch.float64)
    inputs = LossInputs(
        logprobs=ratio.log(),
        old_logprobs=torch.zeros(2, 2, dtype=torch.float64),
        advantages=torch.tensor([1.0, -1.0], dtype=torch.float64),
        loss_mask=torch.ones(2, 2, dtype=torch.bool),
    )
    cfg = FIPOConfig(half_life=1, influence_clip=(0.5, 4.0), safety_threshold=3, dual_clip=5)
    out = policy_loss(inputs, cfg)
    torch.testing.assert_close(out.influence_weights, torch.tensor([[2.0, 1], [1, 1]], dtype=torch.float64))
    assert out.loss.item() == pytest.approx((-2.56 - 1 + 4 + 5) / 4, rel=1e-12)
    assert out.dual_clipped.tolist() == [[False, False], [False, True]]


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("name", [name for name in ALGORITHMS if ALGORITHMS[name].surrogate == Clipped()])
@REPEATABLE
@given(seed=SEEDS, half_life=st.sampled_from([0.5, 4.0, 32.0]))
def test_it_is_the_slow_oracle(name, aggregation, seed, half_life, make_inputs):
    inputs = make_inputs(seed, rows=5, tokens=12, spikes=0.3)
    cfg = dataclasses.replace(ALGORITHMS[name].config, half_life=half_life)
    out = policy_loss(inputs, cfg, **OPTIONS[aggregation])
    assert out.loss.item() == pytest.approx(oracle(inputs, cfg, aggregation), rel=1e-10, abs=1e-12)


def test_grpo_is_its_textbook_formula(make_inputs):
    inputs = make_inputs(0)
    ratio = (inputs.logprobs - inputs.old_logprobs).exp()
    advantages = inputs.advantages[:, None]
    surrogate = torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages) * inputs.loss_mask
    per_sequence = surrogate.sum(1) / inputs.loss_mask.sum(1)
    loss = policy_loss(inputs, ALGORITHMS["grpo"]).loss
    torch.testing.assert_close(loss, -per_sequence.mean(), rtol=1e-12, atol=0)
    loss = policy_loss(inputs, ALGORITHMS["dr_grpo"], longest=100).loss
    torch.testing.assert_close(loss, -(surrogate.sum(1) / 100).mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["release_32b", "release_7b", "paper_32b", "paper_7b"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_on_policy_fipo_is_dapo_bit_for_bit(name, dtype, make_inputs, run):
    old = make_inputs(1).old_logprobs.to(dtype)
    inputs = dataclasses.replace(make_inputs(1), logprobs=old.clone(), old_logprobs=old)
    fipo, fipo_gradient = run(inputs, getattr(FIPOConfig, name)())
    dapo, dapo_gradient = run(inputs, FIPOConfig.dapo())
    assert (fipo.log_ratio == 0).all()
    assert (fipo.influence_weights == 1).all()
    assert torch.equal(fipo.loss, dapo.loss)
    assert torch.equal(fipo_gradient, dapo_gradient)
    assert fipo_gradient.abs().max() > 0


def test_off_policy_fipo_is_not_dapo(make_inputs, run):
    fipo, _ = run(make_inputs(1), CFG)
    dapo, _ = run(make_inputs(1), FIPOConfig.dapo())
    assert fipo.loss != dapo.loss


MOVES = {
    "half_life": 8.0,
    "influence_clip": (0.9, 1.2),
    "safety_threshold": 6.0,
    "safety_floor": 1.0,
    "clip_low": 0.1,
    "clip_high": 0.5,
    "dual_clip": 5.0,
    "max_dual_clipped_tokens": 0,
}


def test_every_field_has_a_test_that_it_moves_the_loss():
    assert set(MOVES) == {field.name for field in dataclasses.fields(FIPOConfig)}


@pytest.mark.parametrize("field", MOVES)
def test_each_field_moves_the_loss_and_the_gradient(field, make_inputs, run):
    inputs = make_inputs(3, rows=12, tokens=80)
    before, gradient_before = run(inputs, CFG)
    after, gradient_after = run(inputs, dataclasses.replace(CFG, **{field: MOVES[field]}))
    assert abs(after.loss - before.loss) > 1e-5
    assert (gradient_after - gradient_before).abs().max() > 1e-5


def test_a_safety_threshold_at_the_dual_clip_changes_no_gradient(make_inputs, run):
    inputs = make_inputs(2, rows=12, tokens=80)
    cfg = dataclasses.replace(FIPOConfig.release_32b(), max_dual_clipped_tokens=None)
    with_rule, gradient = run(inputs, cfg)
    without, same = run(inputs, dataclasses.replace(cfg, safety_threshold=math.inf))
    assert with_rule.dual_clipped.any()
    assert with_rule.loss != without.loss
    assert torch.equal(gradient, same)


def test_an_infinite_dual_clip_is_off_and_gives_no_nan(make_inputs, run):
    inputs = make_inputs(3, rows=8, spikes=0.2)
    zero = dataclasses.replace(inputs, advantages=inputs.advantages * torch.arange(8).clamp(max=1))
    cfg = dataclasses.replace(CFG, dual_clip=math.inf, influence_clip=(0.0, 1.2))
    out, gradient = run(zero, cfg)
    assert out.loss.isfinite()
    assert gradient.isfinite().all()
    assert not out.dual_clipped.any()
    assert out.loss.item() == pytest.approx(oracle(zero, cfg, "token-mean"), rel=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregation": "mean"}, "aggregation must be one of token-mean, "),
        ({"denominator": 0.0}, "denominator must be > 0 and finite, got 0.0"),
        ({"denominator": math.inf}, "denominator must be > 0 and finite, got inf"),
        ({"denominator": math.nan}, "denominator must be a number, got nan"),
        ({"denominator": True}, "denominator must be a number, got True"),
        (
            {"denominator": torch.ones(1)},
            "denominator must be a number or a 0-dim tensor, got shape [1]",
        ),
        (
            {"aggregation": "seq-mean-token-sum-norm"},
            "longest must be > 0 tokens and finite under seq-mean-token-sum-norm, got None",
        ),
        (
            {"aggregation": "seq-mean-token-sum-norm", "longest": 0},
            "longest must be > 0 tokens and finite under seq-mean-token-sum-norm, got 0",
        ),
    ],
)
def test_an_argument_that_does_not_fit_is_refused(options, message, make_inputs):
    with pytest.raises(ValueError) as error:
        policy_loss(make_inputs(0), CFG, **options)
    assert message in str(error.value)


def test_an_algorithm_is_its_config_with_its_own_aggregation(make_inputs, run):
    for chosen in (one for one in ALGORITHMS.values() if one.surrogate == Clipped()):
        (out, gradient), (same, other) = (
            run(make_inputs(1), chosen, longest=32),
            run(make_inputs(1), chosen.config, aggregation=chosen.aggregation, longest=32),
        )
        assert torch.equal(out.loss, same.loss)
        assert torch.equal(gradient, other)


def test_an_aggregation_beside_an_algorithm_is_refused(make_inputs):
    with pytest.raises(ValueError) as error:
        policy_loss(make_inputs(0), ALGORITHMS["dapo"], aggregation="token-mean")
    assert str(error.value) == (
        "aggregation must be left out with an Algorithm, which brings its own, got 'token-mean'"
    )


def test_the_longest_response_matters_to_the_sum_norm_alone(make_inputs, run):
    for aggregation in AGGREGATIONS:
        losses = [run(make_inputs(1), CFG, aggregation=aggregation, longest=n)[0].loss for n in (10, 20)]
        assert (losses[0] == losses[1]) == (aggregation != "seq-mean-token-sum-norm")


def test_a_nan_in_a_trained_token_is_not_hidden(make_inputs):
    inputs = make_inputs(0)
    t = int(inputs.loss_mask[0].nonzero()[0])
    logprobs = inputs.logprobs.detach().clone()
    logprobs[0, t] = math.nan
    out = policy_loss(dataclasses.replace(inputs, logprobs=logprobs), CFG)
    assert out.loss.isnan()
    assert math.isnan(metric_values(out.metrics())["policy/kl"])
