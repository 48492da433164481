import dataclasses
import math
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fipo.objective import FIPOConfig, LossInputs, merge_metrics, metric_values, policy_loss

KEYS = {
    "policy/loss",
    "policy/kl",
    "policy/clip_fraction",
    "policy/clip_fraction_high",
    "policy/clip_fraction_low",
    "policy/dual_clip_fraction",
    "policy/filtered_sequences",
    *(f"policy/ratio_pos/{q}" for q in ("min", "p25", "median", "p75", "p995", "p999", "max", "share_tiny")),
    *(f"policy/ratio_neg/{q}" for q in ("p75", "p995", "p999", "max")),
    *(f"policy/ratio_neg/share_{band}" for band in ("2_3", "3_4", "4_dual")),
    *(f"fipo/{w}/{s}" for w in ("influence_weight", "raw_influence_weight") for s in ("mean", "std", "min", "max")),
    "fipo/influence_weight/clipped_high",
    "fipo/influence_weight/clipped_low",
    "fipo/safety_capped",
}


def measured(ratios, advantages, cfg, mask=None, **options):
    """The metrics of rows of ratios (old_logprobs 0)."""
    ratio = torch.tensor(ratios, dtype=torch.float64)
    inputs = LossInputs(
        logprobs=ratio.log(),
        old_logprobs=torch.zeros_like(ratio),
        advantages=torch.tensor(advantages, dtype=torch.float64),
        loss_mask=torch.ones_like(ratio, dtype=torch.bool) if mask is None else torch.tensor(mask),
    )
    return metric_values(policy_loss(inputs, cfg, **options).metrics())


def test_the_metrics_have_these_names(make_inputs):
    assert set(metric_values(policy_loss(make_inputs(0), FIPOConfig()).metrics())) == KEYS


def test_metrics_are_plain_floats(make_inputs):
    values = metric_values(policy_loss(make_inputs(0), FIPOConfig()).metrics()).values()
    assert {type(value) for value in values} == {float}


def test_the_policy_metrics_of_a_hand_worked_batch():
    """Short half-life, so that each token's weight is its own affair."""
    cfg = FIPOConfig(half_life=1e-3, influence_clip=(0.8, 1.2), safety_threshold=3.0)
    got = measured(
        [[1.0, 1.3, 0.5, 1e-4, 1.0], [0.5, 2.5, 3.5, 5.0, 12.0], [11.0, 11.0, 1.0, 1.0, 1.0]],
        [1.0, -1.0, -1.0],
        cfg,
        mask=[[True] * 5, [True] * 5, [True, True, True, False, False]],
    )
    n = 13
    assert got["policy/clip_fraction_high"] == pytest.approx(1 / n)
    assert got["policy/clip_fraction_low"] == pytest.approx(1 / n)
    assert got["policy/clip_fraction"] == pytest.approx(2 / n)
    assert got["policy/dual_clip_fraction"] == pytest.approx(3 / n)
    assert got["policy/filtered_sequences"] == 1
    assert got["policy/ratio_pos/share_tiny"] == pytest.approx(1 / n)
    assert got["policy/ratio_neg/share_2_3"] == pytest.approx(1 / n)
    assert got["policy/ratio_neg/share_3_4"] == pytest.approx(1 / n)
    assert got["policy/ratio_neg/share_4_dual"] == pytest.approx(1 / n)
    assert got["policy/ratio_neg/max"] == pytest.approx(12.0)
    assert (got["policy/ratio_pos/min"], got["policy/ratio_pos/max"]) == (
        pytest.approx(1e-4),
        pytest.approx(1.3),
    )
    ratios = [1.0, 1.3, 0.5, 1e-4, 1.0, 0.5, 2.5, 3.5, 5.0, 12.0, 11.0, 11.0, 1.0]
    assert got["policy/kl"] == pytest.approx(-sum(map(math.log, ratios)) / n)
    # 12, 11, 11 take no part: raw weight 1. Five others lie outside (0.8, 1.2) without the safety rule.
    assert got["fipo/influence_weight/clipped_high"] == pytest.approx(2 / n)  # 1.3 and 2.5
    assert got["fipo/influence_weight/clipped_low"] == pytest.approx(3 / n)  # 0.5, 1e-4, 0.5
    assert got["fipo/safety_capped"] == pytest.approx(2 / n)  # 3.5 and 5
    raw = [1.0, 1.3, 0.5, 1e-4, 1.0, 0.5, 2.5, 3.5, 5.0, 1.0, 1.0, 1.0, 1.0]
    assert got["fipo/raw_influence_weight/mean"] == pytest.approx(sum(raw) / n)
    assert got["fipo/raw_influence_weight/std"] == pytest.approx(torch.tensor(raw).std(correction=0).item(), rel=1e-6)
    f = [1.0, 1.2, 0.8, 0.8, 1.0, 0.8, 1.2, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert got["fipo/influence_weight/mean"] == pytest.approx(sum(f) / n)
    assert got["fipo/influence_weight/std"] == pytest.approx(torch.tensor(f).std(correction=0).item(), rel=1e-6)
    assert (got["fipo/influence_weight/min"], got["fipo/influence_weight/max"]) == (0.8, 1.2)


def test_a_token_without_an_advantage_is_never_clipped():
    got = measured([[2.0, 0.5, 20.0]], [0.0], FIPOConfig())
    assert got["policy/clip_fraction"] == got["policy/dual_clip_fraction"] == 0
    assert got["policy/ratio_pos/max"] == got["policy/ratio_neg/max"] == 0


def test_a_weight_that_rounding_took_below_its_bound_is_not_counted_as_clipped():
    cfg = FIPOConfig(half_life=1, influence_clip=(1.0, 1.2))
    got = measured([[1 - 4e-5], [1 - 4e-4]], [1.0, 1.0], cfg)
    assert got["fipo/influence_weight/clipped_low"] == 0.5


def test_a_weight_that_the_safety_floor_decided_is_not_counted_as_clipped_low():
    cfg = FIPOConfig(half_life=1, influence_clip=(0.5, 1.2), safety_threshold=3)
    got = measured([[4.0, 1e-3]], [-1.0], cfg)  # raw weights 0.13, raised to the floor 0.8, and 0.001
    assert got["fipo/safety_capped"] == 0.5
    assert got["fipo/influence_weight/clipped_low"] == 0.5
    assert (got["fipo/influence_weight/min"], got["fipo/influence_weight/max"]) == (0.5, 0.8)


def test_a_weight_that_the_upper_bound_decided_is_not_counted_as_safety_capped():
    got = measured([[4.0]], [-1.0], FIPOConfig(influence_clip=(0.5, 1.0), safety_threshold=3))
    assert got["fipo/safety_capped"] == 0
    assert got["fipo/influence_weight/clipped_high"] == 1


def test_the_bands_of_the_ratio_are_open_below():
    got = measured([[2.0]], [-1.0], FIPOConfig())
    assert got["policy/ratio_neg/share_2_3"] == 0


def test_means_are_summed_in_float64():
    x = torch.full((1, 1000), 0.1)
    inputs = LossInputs(
        logprobs=x, old_logprobs=0 * x, advantages=torch.ones(1), loss_mask=torch.ones(1, 1000, dtype=torch.bool)
    )
    got = metric_values(policy_loss(inputs, FIPOConfig()).metrics())
    assert got["policy/kl"] == pytest.approx(-x[0, 0].item(), rel=1e-13)


def test_an_empty_micro_batch_changes_no_metric(make_inputs):
    full = policy_loss(make_inputs(5), FIPOConfig()).metrics()
    nothing = dataclasses.replace(make_inputs(5), loss_mask=torch.zeros(6, 40, dtype=torch.bool))
    empty = policy_loss(nothing, FIPOConfig()).metrics()
    assert merge_metrics([full, empty]) == merge_metrics([empty, full]) == full


def test_the_loss_metric_is_the_loss(make_inputs):
    out = policy_loss(make_inputs(1), FIPOConfig.release_7b(), aggregation="seq-mean-token-mean")
    assert metric_values(out.metrics())["policy/loss"] == pytest.approx(out.loss.item(), rel=1e-12)


@pytest.mark.parametrize("name", ["release_32b", "release_7b", "dapo"])
def test_on_policy_no_weight_counts_as_clipped(name):
    got = measured([[1.0] * 9], [1.0], getattr(FIPOConfig, name)())
    assert got["fipo/influence_weight/clipped_low"] == 0
    assert got["fipo/influence_weight/clipped_high"] == 0
    assert got["fipo/influence_weight/mean"] == 1
    assert got["fipo/influence_weight/std"] == 0


def test_one_sided_weights_have_a_mean_of_about_one_point_07_on_pure_noise():
    noise = 0.055 * torch.randn(64, 2048, generator=torch.Generator().manual_seed(0))  # bf16's per-token sd
    inputs = LossInputs(
        logprobs=noise,
        old_logprobs=torch.zeros_like(noise),
        advantages=torch.ones(64),
        loss_mask=torch.ones(64, 2048, dtype=torch.bool),
    )
    one_sided = metric_values(policy_loss(inputs, FIPOConfig.release_32b()).metrics())
    two_sided = metric_values(policy_loss(inputs, FIPOConfig.release_7b()).metrics())
    assert one_sided["fipo/influence_weight/mean"] == pytest.approx(1.07, abs=0.01)
    assert two_sided["fipo/influence_weight/mean"] == pytest.approx(1.0, abs=0.02)
    saturated = sum(two_sided[f"fipo/influence_weight/clipped_{side}"] for side in ("high", "low"))
    assert saturated == pytest.approx(0.44, abs=0.03)


def test_a_replaced_weight_is_what_the_influence_metrics_describe():
    got = measured(
        [[2.0, 2.0]],
        [1.0],
        FIPOConfig(half_life=1.0),
        influence=lambda log_ratio, *_: torch.full_like(log_ratio, 0.5),
    )
    assert got["fipo/influence_weight/mean"] == 0.5
    assert got["fipo/raw_influence_weight/max"] == pytest.approx(2**1.5)
    assert got["fipo/influence_weight/clipped_high"] == 1.0


def test_a_raw_weight_that_overflows_stays_a_finite_number():
    ratio = torch.full((1, 3000), 2.2)  # log-ratio sums of thousands
    inputs = LossInputs(
        logprobs=ratio,
        old_logprobs=torch.zeros_like(ratio),
        advantages=torch.ones(1),
        loss_mask=torch.ones_like(ratio, dtype=torch.bool),
    )
    got = metric_values(policy_loss(inputs, FIPOConfig(half_life=4096)).metrics())
    assert all(math.isfinite(value) for value in got.values())
    assert got["fipo/raw_influence_weight/max"] > 1e100


def test_metrics_wait_for_the_device_once(make_inputs):
    """Every value leaves the device in one tolist; nothing else needs to look at data."""
    waits = {
        "aten::_local_scalar_dense",
        "aten::nonzero",
        "aten::masked_select",
        "aten::equal",
        "aten::is_nonzero",
    }

    class Waits(TorchDispatchMode):
        seen: list[str] = []  # noqa: RUF012

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            name = func.name().split(".")[0]
            if name in waits:
                self.seen.append(name)
            return func(*args, **(kwargs or {}))

    out = policy_loss(make_inputs(2), FIPOConfig())
    calls = []
    original = torch.Tensor.tolist
    with (
        mock.patch.object(torch.Tensor, "tolist", lambda self: calls.append(1) or original(self)),
        Waits() as mode,
    ):
        out.metrics()
    assert mode.seen == []
    assert len(calls) == 1


def test_the_loss_itself_never_waits_for_the_device(make_inputs):
    class Refuses(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            assert func.name().split(".")[0] not in {"aten::_local_scalar_dense", "aten::nonzero"}
            return func(*args, **(kwargs or {}))

    inputs = make_inputs(3)
    with Refuses():
        policy_loss(inputs, FIPOConfig(), denominator=torch.tensor(7.0)).loss.backward()
    with pytest.raises(AssertionError), Refuses():
        inputs.logprobs.sum().item()


def test_metrics_of_float32_and_float64_agree(make_inputs):
    inputs = make_inputs(4)
    single = dataclasses.replace(
        inputs,
        logprobs=inputs.logprobs.detach().float(),
        old_logprobs=inputs.old_logprobs.float(),
        advantages=inputs.advantages.float(),
    )
    cfg = FIPOConfig.release_7b()
    wide, narrow = (metric_values(policy_loss(x, cfg).metrics()) for x in (inputs, single))
    for key, value in wide.items():
        assert narrow[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key
