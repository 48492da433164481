import dataclasses
import itertools
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
    merge_metrics,
    metric_values,
    policy_loss,
)

REPEATABLE = settings(derandomize=True, deadline=None, database=None, max_examples=25)
SEEDS = st.integers(0, 10_000)
DIVISOR = 32
OPTIONS = {
    name: {"aggregation": name, "token_divisor": DIVISOR if name.endswith("norm") else None} for name in AGGREGATIONS
}
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
        "seq-mean-token-sum-norm": sum(sums) / max(rows, 1) / DIVISOR,
    }[aggregation]


def joined(*parts):
    """Rows of several batches below each other."""
    names = ("logprobs", "old_logprobs", "advantages", "loss_mask")
    return LossInputs(**{name: torch.cat([getattr(part, name).detach() for part in parts]) for name in names})


def chosen(inputs, rows):
    return LossInputs(
        logprobs=inputs.logprobs.detach()[rows],
        old_logprobs=inputs.old_logprobs[rows],
        advantages=inputs.advantages[rows],
        loss_mask=inputs.loss_mask[rows],
    )


def padded(inputs, *, left, right, below, value):
    """The same batch inside a larger one whose every other entry is `value`."""

    def grow(x, fill):
        return torch.nn.functional.pad(x.detach(), (left, right, 0, below), value=fill)

    tokenwise = inputs.advantages[:, None].expand_as(inputs.logprobs)
    return LossInputs(
        logprobs=grow(inputs.logprobs, value),
        old_logprobs=grow(inputs.old_logprobs, -value),
        advantages=grow(tokenwise, value),
        loss_mask=grow(inputs.loss_mask, False),
    )


def assert_same_metrics(got, expected):
    got, expected = metric_values(got), metric_values(expected)
    assert list(got) == list(expected)
    for key, value in expected.items():
        assert got[key] == pytest.approx(value, rel=1e-11, abs=1e-12), key


# --- the values


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
@pytest.mark.parametrize("name", ALGORITHMS)
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
    grpo, dr_grpo = ALGORITHMS["grpo"], ALGORITHMS["dr_grpo"]
    loss = policy_loss(inputs, grpo.config, aggregation=grpo.aggregation).loss
    torch.testing.assert_close(loss, -per_sequence.mean(), rtol=1e-12, atol=0)
    loss = policy_loss(inputs, dr_grpo.config, aggregation=dr_grpo.aggregation, token_divisor=100).loss
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


# --- the gradient


def test_the_gradient_is_the_numerical_one_with_the_weights_held(make_inputs):
    inputs = make_inputs(4, rows=4, tokens=10, spikes=0.2)
    for cfg in (CFG, FIPOConfig.dapo(), FIPOConfig.grpo()):
        f = policy_loss(inputs, cfg).influence_weights

        def loss(logprobs, cfg=cfg, f=f):
            held = dataclasses.replace(inputs, logprobs=logprobs)
            return policy_loss(held, cfg, influence=lambda *_: f).loss

        assert torch.autograd.gradcheck(loss, inputs.logprobs)


def test_no_gradient_flows_through_the_weights(make_inputs, run):
    inputs = make_inputs(5)
    out, gradient = run(inputs, CFG)
    _, held = run(inputs, CFG, influence=lambda *_: out.influence_weights)
    assert torch.equal(gradient, held)


def test_the_gradient_has_its_closed_form(make_inputs, run):
    """d l / d logprobs = -A f r where neither clip is active, else 0."""
    inputs = make_inputs(6, spikes=0.2)
    out, gradient = run(inputs, CFG, denominator=1.0)
    positive = out.advantages > 0
    active = torch.where(positive, out.ratio <= 1.28, (out.ratio >= 0.8) & (out.ratio <= 10))
    expected = torch.where(out.kept & active, -out.advantages * out.influence_weights * out.ratio, 0.0)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=0)


def test_old_logprobs_and_advantages_are_constants(make_inputs):
    inputs = make_inputs(7)
    attached = dataclasses.replace(inputs, old_logprobs=inputs.logprobs * 1.0, advantages=inputs.logprobs.mean(dim=1))
    policy_loss(attached, CFG).loss.backward()
    expected = -attached.advantages.detach()[:, None] * inputs.loss_mask / inputs.loss_mask.sum()
    torch.testing.assert_close(inputs.logprobs.grad, expected, rtol=1e-12, atol=1e-15)


def test_a_log_ratio_beyond_20_has_no_gradient(run):
    inputs = LossInputs(
        logprobs=torch.tensor([[0.0, -30.0, -math.inf]], dtype=torch.float64),
        old_logprobs=torch.tensor([[0.0, -1.0, -1.0]], dtype=torch.float64),
        advantages=torch.tensor([1.0], dtype=torch.float64),
        loss_mask=torch.ones(1, 3, dtype=torch.bool),
    )
    out, gradient = run(inputs, FIPOConfig.dapo())
    assert out.log_ratio.tolist() == [[0.0, -20.0, -20.0]]
    assert out.loss.isfinite()
    torch.testing.assert_close(gradient, torch.tensor([[-1 / 3, 0.0, 0.0]], dtype=torch.float64))


# --- invariances


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@REPEATABLE
@given(seed=SEEDS, cuts=st.lists(st.integers(1, 7), max_size=4), order=st.permutations(range(8)))
def test_the_cut_into_micro_batches_changes_nothing(aggregation, seed, cuts, order, make_inputs, run):
    """Sum un-normalised gradients and weights over the parts, divide once: rows in any order, any cut."""
    inputs = make_inputs(seed, rows=8, tokens=20, spikes=0.15)
    whole, gradient = run(inputs, CFG, **OPTIONS[aggregation])
    order = torch.tensor(order)
    bounds = [0, *sorted(set(cuts)), 8]
    total = torch.zeros((), dtype=torch.float64)
    weight = torch.zeros((), dtype=torch.int64)
    summed = torch.zeros_like(gradient)
    parts = []
    for start, stop in itertools.pairwise(bounds):
        rows = order[start:stop]
        out, part = run(chosen(inputs, rows), CFG, denominator=1.0, **OPTIONS[aggregation])
        total, weight = total + out.loss.detach(), weight + out.weight
        summed[rows] = part
        parts.append(out.metrics())
    assert weight == whole.weight
    denominator = weight.clamp(min=1)
    torch.testing.assert_close(total / denominator, whole.loss.detach(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(summed / denominator, gradient, rtol=1e-12, atol=1e-14)
    assert_same_metrics(merge_metrics(parts), whole.metrics())


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("value", [0.0, math.nan, math.inf, -math.inf, 1e30])
def test_padding_changes_nothing_whatever_is_in_it(aggregation, value, make_inputs, run):
    inputs = make_inputs(8, spikes=0.1)
    plain, gradient = run(inputs, CFG, **OPTIONS[aggregation])
    larger = padded(inputs, left=3, right=5, below=2, value=value)
    out, outer = run(larger, CFG, **OPTIONS[aggregation])
    torch.testing.assert_close(out.loss, plain.loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(outer[:6, 3:-5], gradient, rtol=1e-12, atol=1e-16)
    outer[:6, 3:-5] = 0
    assert (outer == 0).all()
    assert_same_metrics(out.metrics(), plain.metrics())


@pytest.mark.parametrize("name", ["logprobs", "old_logprobs"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_holes_in_the_mask_are_never_read(name, value, make_inputs, run):
    inputs = make_inputs(9)
    spoilt = dataclasses.replace(inputs, **{name: getattr(inputs, name).detach().masked_fill(~inputs.loss_mask, value)})
    (plain, gradient), (out, same) = run(inputs, CFG), run(spoilt, CFG)
    assert torch.equal(out.loss, plain.loss)
    assert torch.equal(gradient, same)
    assert out.metrics() == plain.metrics()


def test_the_advantage_of_an_empty_response_is_never_read(make_inputs, run):
    inputs = make_inputs(10)
    empty = dataclasses.replace(inputs, loss_mask=inputs.loss_mask & (torch.arange(6) < 5)[:, None])
    spoilt = dataclasses.replace(empty, advantages=empty.advantages.index_fill(0, torch.tensor([5]), math.nan))
    (plain, gradient), (out, same) = run(empty, CFG), run(spoilt, CFG)
    assert torch.equal(out.loss, plain.loss)
    assert torch.equal(gradient, same)


def test_one_advantage_per_response_is_the_same_as_one_per_token(make_inputs, run):
    inputs = make_inputs(11)
    tokenwise = dataclasses.replace(inputs, advantages=inputs.advantages[:, None].expand(-1, 40).contiguous())
    (plain, gradient), (out, same) = run(inputs, CFG), run(tokenwise, CFG)
    assert torch.equal(out.loss, plain.loss)
    assert torch.equal(gradient, same)


def test_arguments_are_not_changed(make_inputs):
    inputs = make_inputs(12)
    names = ("logprobs", "old_logprobs", "advantages", "loss_mask")
    before = {name: getattr(inputs, name).detach().clone() for name in names}
    policy_loss(inputs, CFG).metrics()
    for name in names:
        assert torch.equal(getattr(inputs, name).detach(), before[name])


def test_bf16_inputs_are_computed_in_float32(make_inputs, run):
    inputs = make_inputs(13)
    low = dataclasses.replace(
        inputs, logprobs=inputs.logprobs.detach().bfloat16(), old_logprobs=inputs.old_logprobs.bfloat16()
    )
    high = dataclasses.replace(low, logprobs=low.logprobs.float(), old_logprobs=low.old_logprobs.float())
    (out, gradient), (expected, wide) = run(low, CFG), run(high, CFG)
    assert out.loss.dtype == out.future_kl.dtype == torch.float32
    assert torch.equal(out.loss, expected.loss)
    assert torch.equal(gradient, wide.bfloat16())


# --- filter and aggregation


def with_spikes(tokens_above, advantage=-1.0):
    """One response of 10 tokens at ratio 1.1, of which the first `tokens_above` are at ratio 12."""
    ratio = torch.where(torch.arange(10) < tokens_above, 12.0, 1.1).double()[None]
    return LossInputs(
        logprobs=ratio.log(),
        old_logprobs=torch.zeros(1, 10, dtype=torch.float64),
        advantages=torch.tensor([advantage], dtype=torch.float64),
        loss_mask=torch.ones(1, 10, dtype=torch.bool),
    )


@pytest.mark.parametrize(
    ("tokens", "advantage", "kept"), [(0, -1.0, True), (1, -1.0, True), (2, -1.0, False), (2, 1.0, True)]
)
def test_the_filter_drops_a_response_with_two_dual_clipped_tokens(tokens, advantage, kept):
    out = policy_loss(with_spikes(tokens, advantage), FIPOConfig.release_7b())
    assert out.kept.all() == kept
    assert out.kept.any() == kept
    assert policy_loss(with_spikes(tokens, advantage), FIPOConfig.paper_7b()).kept.all()


def test_a_ratio_exactly_at_the_dual_clip_is_not_dual_clipped():
    inputs = with_spikes(0)
    at_two = dataclasses.replace(inputs, logprobs=torch.full_like(inputs.logprobs, math.log(2.0)))
    cfg = dataclasses.replace(CFG, dual_clip=2.0)
    assert (policy_loss(at_two, cfg).ratio == 2.0).all()
    assert not policy_loss(at_two, cfg).dual_clipped.any()


def test_dropped_tokens_leave_the_denominator_of_the_token_mean():
    both = joined(with_spikes(0), with_spikes(2))
    out = policy_loss(both, CFG)
    assert out.weight == 10
    torch.testing.assert_close(out.loss, policy_loss(with_spikes(0), CFG).loss, rtol=1e-12, atol=0)


@pytest.mark.parametrize("aggregation", AGGREGATIONS[1:])
def test_a_dropped_response_stays_in_the_mean_over_responses(aggregation):
    both = joined(with_spikes(0), with_spikes(2))
    out = policy_loss(both, CFG, **OPTIONS[aggregation])
    alone = policy_loss(with_spikes(0), CFG, **OPTIONS[aggregation])
    assert out.weight == 2
    torch.testing.assert_close(out.loss, alone.loss / 2, rtol=1e-12, atol=0)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_the_natural_denominator_is_the_weight(aggregation, make_inputs, run):
    inputs = make_inputs(14)
    out, gradient = run(inputs, CFG, **OPTIONS[aggregation])
    for weight in (out.weight, int(out.weight), float(out.weight)):
        same, same_gradient = run(inputs, CFG, denominator=weight, **OPTIONS[aggregation])
        assert torch.equal(same.loss, out.loss)
        assert torch.equal(same_gradient, gradient)
    doubled, half = run(inputs, CFG, denominator=2.0 * out.weight, **OPTIONS[aggregation])
    assert doubled.loss == out.loss / 2
    assert torch.equal(half, gradient / 2)


def test_the_weight_of_the_token_mean_counts_kept_tokens(make_inputs):
    out = policy_loss(make_inputs(14, spikes=0.2), CFG)
    assert out.weight == out.kept.sum()
    assert out.weight < out.loss_mask.sum()
    assert not out.weight.is_floating_point()


def nothing_at_all():
    empty = torch.zeros(0, 7)
    return LossInputs(logprobs=empty, old_logprobs=empty, advantages=torch.zeros(0), loss_mask=empty.bool())


def no_tokens():
    empty = torch.zeros(3, 0)
    return LossInputs(logprobs=empty, old_logprobs=empty, advantages=torch.ones(3), loss_mask=empty.bool())


def all_masked():
    x = torch.zeros(3, 7)
    return LossInputs(logprobs=x, old_logprobs=x - 1, advantages=torch.ones(3), loss_mask=x.bool())


def all_dropped():
    return joined(with_spikes(2), with_spikes(3))


@pytest.mark.parametrize("batch", [nothing_at_all, no_tokens, all_masked, all_dropped])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("denominator", [None, 1.0, torch.tensor(0.0), torch.tensor(0)])
def test_a_batch_without_kept_tokens_has_loss_zero_and_gradient_zero(batch, aggregation, denominator, run):
    out, gradient = run(batch(), CFG, denominator=denominator, **OPTIONS[aggregation])
    assert out.loss.item() == 0.0
    assert (gradient == 0).all()
    assert all(math.isfinite(value) for value in metric_values(out.metrics()).values())


# --- errors


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
            "token_divisor of seq-mean-token-sum-norm must be a number, got None",
        ),
        (
            {"aggregation": "seq-mean-token-sum-norm", "token_divisor": 0},
            "token_divisor of seq-mean-token-sum-norm must be > 0 tokens and finite, got 0",
        ),
        (
            {"token_divisor": 512},
            "must be None unless aggregation is seq-mean-token-sum-norm, got 512 with token-mean",
        ),
    ],
)
def test_an_argument_that_does_not_fit_is_refused(options, message, make_inputs):
    with pytest.raises(ValueError) as error:
        policy_loss(make_inputs(0), CFG, **options)
    assert message in str(error.value)


def test_a_nan_in_a_trained_token_is_not_hidden(make_inputs):
    inputs = make_inputs(0)
    t = int(inputs.loss_mask[0].nonzero()[0])
    logprobs = inputs.logprobs.detach().clone()
    logprobs[0, t] = math.nan
    out = policy_loss(dataclasses.replace(inputs, logprobs=logprobs), CFG)
    assert out.loss.isnan()
    assert math.isnan(metric_values(out.metrics())["policy/kl"])
