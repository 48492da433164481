"""What holds of each surrogate, one that is added tomorrow included: it needs a vector, and nothing here.

The vectors have random float64 inputs, and what the losses that verl 0.9.1 registers made of them.
"""

import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fipo.objective import (
    AGGREGATIONS,
    ALGORITHMS,
    SURROGATES,
    FIPOConfig,
    LossInputs,
    algorithm,
    merge_metrics,
    metric_values,
    policy_loss,
)
from fipo.study.controls import CONTROLS

REPEATABLE = settings(derandomize=True, deadline=None, database=None, max_examples=15)
SEEDS = st.integers(0, 10_000)
NAMES = [one.name for one in SURROGATES]
PRESETS = [name for name in ALGORITHMS if name.removeprefix("fipo_") in NAMES]
VECTORS = sorted((Path(__file__).parent.parent / "vectors" / "surrogates").glob("*.npz"))
VERL_S_EPSILON = 1e-8  # verl adds it to the tokens of a response where it averages over them
OF_CLIPPED = {"policy/dual_clip_fraction", "policy/filtered_sequences", "policy/ratio_neg/share_4_dual"}
GENTLE = {"gspo": {"clip_low": 0.1, "clip_high": 0.1}}  # bounds that the batches here reach and do not all pass
CLIP_FRACTIONS = {f"policy/clip_fraction{side}" for side in ("", "_high", "_low")}


def preset_of(path):
    return max((name for name in NAMES if path.stem.startswith(name)), key=len)


def load(path, dtype=torch.float64):
    """(inputs, the algorithm, the expected loss and gradient) of a vector. A knob that is NaN is none of it."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    known = ALGORITHMS[preset_of(path)].settings()
    knobs = {name: float(value) for name, value in arrays.items() if name in known and not math.isnan(float(value))}
    inputs = LossInputs(
        **{name: torch.from_numpy(arrays[name]).to(dtype) for name in ("logprobs", "old_logprobs", "advantages")},
        loss_mask=torch.from_numpy(arrays["loss_mask"]),
    )
    chosen = algorithm(preset_of(path), aggregation=str(arrays["aggregation"]), **knobs)
    return inputs, chosen, float(arrays["loss"]), torch.from_numpy(arrays["grad"])


def test_every_surrogate_has_a_vector():
    assert {preset_of(path) for path in VECTORS} == set(NAMES)


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_loss_and_gradient_are_the_published_ones(path, run):
    inputs, chosen, loss, expected = load(path)
    out, gradient = run(inputs, chosen)
    assert out.loss.item() == pytest.approx(loss, rel=1e-8)
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-10)
    if chosen.aggregation == "seq-mean-token-mean":
        assert (out.rows.loss / (out.rows.tokens.double() + VERL_S_EPSILON)).mean().item() == pytest.approx(
            loss, rel=1e-9
        )
    else:
        assert out.loss.item() == pytest.approx(loss, rel=1e-9)


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_float32_gives_them_to_its_precision(path, run):
    inputs, chosen, loss, expected = load(path, torch.float32)
    out, gradient = run(inputs, chosen)
    assert out.loss.item() == pytest.approx(loss, rel=2e-5)
    torch.testing.assert_close(gradient.double(), expected, rtol=2e-4, atol=1e-6)


def probable(inputs):
    """The same with log-probs of probabilities below 1."""
    return dataclasses.replace(inputs, logprobs=inputs.logprobs.clamp(max=-0.01))


def chosen_rows(inputs, rows):
    return LossInputs(**{name: tensor.detach()[rows] for name, tensor in vars(inputs).items() if tensor is not None})


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("name", PRESETS)
@REPEATABLE
@given(seed=SEEDS, cuts=st.lists(st.integers(1, 5), max_size=3), order=st.permutations(range(6)))
def test_the_cut_into_micro_batches_changes_nothing(name, aggregation, seed, cuts, order, make_inputs, run):
    inputs, order = make_inputs(seed, tokens=15), torch.tensor(order)
    chosen = algorithm(name, aggregation=aggregation)
    whole, gradient = run(inputs, chosen, longest=32)
    total, weight, summed, parts = 0.0, 0, torch.zeros_like(gradient), []
    for start, stop in itertools.pairwise([0, *sorted(set(cuts)), 6]):
        out, part = run(chosen_rows(inputs, order[start:stop]), chosen, denominator=1.0, longest=32)
        total, weight = total + out.loss.item(), weight + int(out.weight)
        summed[order[start:stop]] = part
        parts.append(out.metrics())
    assert total / weight == pytest.approx(whole.loss.item(), rel=1e-12, abs=1e-14)
    torch.testing.assert_close(summed / weight, gradient, rtol=1e-12, atol=1e-14)
    merged, expected = metric_values(merge_metrics(parts)), metric_values(whole.metrics())
    assert list(merged) == list(expected)
    for key, value in expected.items():
        assert merged[key] == pytest.approx(value, rel=1e-11, abs=1e-12), key


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("name", PRESETS)
def test_what_stands_off_the_mask_is_never_read(name, value, make_inputs, run):
    inputs = make_inputs(8)
    empty = dataclasses.replace(inputs, loss_mask=inputs.loss_mask & (torch.arange(6) < 5)[:, None])
    spoilt = {
        field: getattr(empty, field).detach().masked_fill(~empty.loss_mask, value)
        for field in ("logprobs", "old_logprobs")
    }
    (plain, gradient), (out, same) = (
        run(empty, ALGORITHMS[name]),
        run(dataclasses.replace(empty, **spoilt), ALGORITHMS[name]),
    )
    assert torch.equal(out.loss, plain.loss)
    assert torch.equal(gradient, same)
    assert (gradient[~empty.loss_mask] == 0).all()
    assert out.metrics() == plain.metrics()


@pytest.mark.parametrize("name", PRESETS)
def test_padding_changes_nothing(name, make_inputs, run):
    inputs = make_inputs(9)
    pad = lambda x, value: torch.nn.functional.pad(x.detach(), (2, 3, 0, 1), value=value)  # noqa: E731
    larger = LossInputs(
        logprobs=pad(inputs.logprobs, math.nan),
        old_logprobs=pad(inputs.old_logprobs, math.nan),
        advantages=torch.nn.functional.pad(inputs.advantages, (0, 1), value=math.nan),
        loss_mask=pad(inputs.loss_mask, False),
    )
    (plain, gradient), (out, outer) = run(inputs, ALGORITHMS[name]), run(larger, ALGORITHMS[name])
    torch.testing.assert_close(out.loss, plain.loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(outer[:-1, 2:-3], gradient, rtol=1e-12, atol=1e-16)
    assert outer.count_nonzero() == gradient.count_nonzero()


@pytest.mark.parametrize("name", PRESETS)
def test_nothing_at_all_is_a_loss_of_zero(name, run):
    x = torch.zeros(3, 7)
    nothing = LossInputs(logprobs=x, old_logprobs=x - 1, advantages=torch.ones(3), loss_mask=x.bool())
    out, gradient = run(nothing, ALGORITHMS[name])
    assert out.loss.item() == 0
    assert (gradient == 0).all()
    assert all(math.isfinite(value) for value in metric_values(out.metrics()).values())


@pytest.mark.parametrize("name", PRESETS)
def test_bf16_inputs_are_computed_in_float32(name, make_inputs, run):
    inputs = make_inputs(13)
    low = dataclasses.replace(
        inputs, logprobs=inputs.logprobs.detach().bfloat16(), old_logprobs=inputs.old_logprobs.bfloat16()
    )
    high = dataclasses.replace(low, logprobs=low.logprobs.float(), old_logprobs=low.old_logprobs.float())
    (out, gradient), (expected, wide) = run(low, ALGORITHMS[name]), run(high, ALGORITHMS[name])
    assert torch.equal(out.loss, expected.loss)
    assert torch.equal(gradient, wide.bfloat16())


@pytest.mark.parametrize("name", NAMES)
def test_on_policy_the_weights_are_exactly_1_and_change_no_bit(name, make_inputs, run):
    old = make_inputs(1).old_logprobs
    inputs = dataclasses.replace(make_inputs(1), logprobs=old.clone())
    (plain, gradient), (fipo, same) = run(inputs, ALGORITHMS[name]), run(inputs, ALGORITHMS[f"fipo_{name}"])
    assert (fipo.influence_weights == 1).all()
    assert torch.equal(fipo.loss, plain.loss)
    assert torch.equal(gradient, same)
    expected = -inputs.advantages[:, None] * inputs.loss_mask  # every surrogate is REINFORCE there
    if plain.weight == inputs.loss_mask.sum():
        torch.testing.assert_close(gradient * plain.weight, expected, rtol=1e-12, atol=1e-14)
    else:
        per_row = expected / inputs.loss_mask.sum(1, keepdim=True)
        torch.testing.assert_close(gradient * plain.weight, per_row, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_off_policy_the_weights_multiply_the_advantage(name, make_inputs, run):
    inputs = make_inputs(2)
    fipo, gradient = run(inputs, ALGORITHMS[f"fipo_{name}"])
    weighted = dataclasses.replace(inputs, advantages=fipo.advantages * fipo.influence_weights)
    plain, same = run(weighted, ALGORITHMS[name])
    assert torch.equal(fipo.loss, plain.loss)
    assert torch.equal(gradient, same)
    assert fipo.loss != run(inputs, ALGORITHMS[name])[0].loss


@pytest.mark.parametrize("control", [name for name, control in CONTROLS.items() if control.influence])
@pytest.mark.parametrize("name", NAMES)
def test_every_control_works_with_it(name, control, make_inputs, run):
    """It moves the gradient; under gspo the sum over a response, and so the loss, does not see a shuffle."""
    inputs, chosen = make_inputs(3, spikes=0.2), algorithm(f"fipo_{name}", influence_clip=None, **GENTLE.get(name, {}))
    controlled, gradient = run(inputs, chosen, influence=CONTROLS[control].influence)
    assert controlled.loss.isfinite()
    assert (gradient - run(inputs, chosen)[1]).abs().max() > 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_each_of_its_knobs_moves_the_loss_and_the_gradient(name, make_inputs, run):
    inputs = probable(make_inputs(3, rows=12, tokens=80, spikes=0.1))
    gentle = GENTLE.get(name, {})
    chosen = algorithm(name, **gentle)
    before, gradient_before = run(inputs, chosen)
    for knob in dataclasses.fields(chosen.surrogate):
        after, gradient_after = run(
            inputs, algorithm(name, **{**gentle, knob.name: getattr(chosen.surrogate, knob.name) / 5})
        )
        assert abs(after.loss - before.loss) > 1e-6, knob.name
        assert (gradient_after - gradient_before).abs().max() > 1e-6, knob.name


@pytest.mark.parametrize("name", PRESETS)
def test_what_it_does_not_have_is_absent_from_the_metrics(name, make_inputs):
    out = policy_loss(make_inputs(4, spikes=0.2), ALGORITHMS[name])
    keys = set(metric_values(out.metrics()))
    dapo = set(metric_values(policy_loss(make_inputs(4), FIPOConfig.dapo()).metrics()))
    has_bound = out.fields.clipped_high is not None
    assert keys == dapo - OF_CLIPPED - (set() if has_bound else CLIP_FRACTIONS)
    assert has_bound == (name.removeprefix("fipo_") != "sapo")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "sapo"])
def test_a_clip_fraction_is_the_share_of_tokens_that_its_bound_holds(name, make_inputs):
    inputs = probable(make_inputs(5, rows=12, noise=0.4, spikes=0.02))
    out = policy_loss(inputs, ALGORITHMS[name])
    values, tokens = metric_values(out.metrics()), int(inputs.loss_mask.sum())
    high, low = (int((side & inputs.loss_mask).sum()) for side in (out.fields.clipped_high, out.fields.clipped_low))
    assert values["policy/clip_fraction_high"] == pytest.approx(high / tokens)
    assert values["policy/clip_fraction_low"] == pytest.approx(low / tokens)
    assert values["policy/clip_fraction"] == pytest.approx((high + low) / tokens)
    assert high > 0
    assert low > 0 or name == "cispo"


@pytest.mark.parametrize("name", PRESETS)
def test_only_the_loss_carries_a_graph(name, make_inputs):
    out = policy_loss(make_inputs(6), ALGORITHMS[name])
    fields = [getattr(out.fields, field.name) for field in dataclasses.fields(out.fields)]
    assert not any(tensor.requires_grad for tensor in [*fields, out.rows.loss] if tensor is not None)
    assert out.loss.requires_grad
