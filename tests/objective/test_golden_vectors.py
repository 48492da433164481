"""Golden vectors: loss, gradient and metrics of the released FIPO training code (March 2026).

Each file has random float64 inputs, the future KL by its definition, and what the released loss made of them over
one batch (sequence filter on, dropped sequences outside the denominator, 1e-8 added to the token count).
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fipo.objective import FIPOConfig, LossInputs, metric_values
from fipo.objective.events import ROUNDING

VECTORS = sorted((Path(__file__).parent / "vectors").glob("*.npz"))

OURS = {
    "loss": "policy/loss",
    "clip_fraction": "policy/clip_fraction",
    "policy_kl": "policy/kl",
    "dual_clip_fraction": "policy/dual_clip_fraction",
    "influence_weight_mean": "fipo/influence_weight/mean",
    "influence_weight_min": "fipo/influence_weight/min",
    "influence_weight_max": "fipo/influence_weight/max",
    "influence_clip_fraction_upper": "fipo/influence_weight/clipped_high",
    "raw_influence_weight_mean": "fipo/raw_influence_weight/mean",
    "raw_influence_weight_min": "fipo/raw_influence_weight/min",
    "raw_influence_weight_max": "fipo/raw_influence_weight/max",
    "neg_ratio_2_3": "policy/ratio_neg/share_2_3",
    "neg_ratio_3_4": "policy/ratio_neg/share_3_4",
    "neg_ratio_4_dual": "policy/ratio_neg/share_4_dual",
    "neg_ratio_max": "policy/ratio_neg/max",
    "pos_ratio_max": "policy/ratio_pos/max",
    "pos_ratio_min": "policy/ratio_pos/min",
    "pos_tiny_ratio_fraction": "policy/ratio_pos/share_tiny",
}
QUANTILES = {
    f"{sign}_ratio_{q}": f"policy/ratio_{sign}/{q}"
    for sign, names in (("neg", ("p75", "p995", "p999")), ("pos", ("p25", "median", "p75", "p995", "p999")))
    for q in names
}
QUICK = {"mask_with_holes", "seq_sum_dropped", "single_token"}  # interpreted kernels are slow
# The released code counts a weight that is 1 by nature as clipped at the lower bound 1; ours does not.
DIFFERENT = {"influence_clip_fraction", "influence_clip_fraction_lower"}


def load(path, dtype):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    config, metrics = (json.loads(str(arrays.pop(name))) for name in ("config", "metrics"))
    e = config["influence_clip"]
    low = 1.0 if config["influence_clip_high_only"] else 1 - e
    cfg = FIPOConfig(
        half_life=config["half_life"],
        influence_clip=(low, 1 + e) if e else None,
        safety_threshold=config["safety_threshold"],
        clip_low=config["clip_low"],
        clip_high=config["clip_high"],
        dual_clip=config["dual_clip"],
    )
    names = ("logprobs", "old_logprobs", "advantages")
    inputs = LossInputs(
        **{name: torch.from_numpy(arrays[name]).to(dtype) for name in names},
        loss_mask=torch.from_numpy(arrays["loss_mask"]),
    )
    truth = {name: torch.from_numpy(arrays[name]) for name in ("future_kl", "grad_logprobs")}
    return inputs, cfg, config["loss_agg_mode"], truth, metrics


def relative(got, expected):
    """The largest difference as a fraction of the largest expected value."""
    return ((got.double() - expected).abs().max() / expected.abs().max().clamp(min=1e-12)).item()


def test_all_vectors_are_here():
    assert len(VECTORS) == 15


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-5)])
@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_loss_gradient_and_future_kl_are_the_released_ones(path, dtype, tolerance, run):
    inputs, cfg, aggregation, truth, metrics = load(path, dtype)
    out, gradient = run(inputs, cfg, aggregation=aggregation)
    assert out.loss.dtype == dtype
    assert out.loss.item() == pytest.approx(metrics["loss"], rel=tolerance)
    assert relative(gradient, truth["grad_logprobs"]) <= tolerance
    assert relative(out.future_kl, truth["future_kl"]) <= min(tolerance, 3e-6)


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=() if path.stem in QUICK else pytest.mark.slow) for path in VECTORS],
)
def test_the_kernels_give_the_released_loss_gradient_and_metrics(path, run_fused):
    inputs, cfg, aggregation, truth, metrics = load(path, torch.float32)
    out, gradient = run_fused(inputs, cfg, aggregation=aggregation)
    assert out.loss.item() == pytest.approx(metrics["loss"], rel=1e-5)
    assert relative(gradient, truth["grad_logprobs"]) <= 1e-5
    values = metric_values(out.metrics())
    for theirs, ours in OURS.items():
        assert values[ours] == pytest.approx(metrics[theirs], rel=2e-5, abs=1e-6), theirs


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_metrics_are_the_released_ones(path, run):
    inputs, cfg, aggregation, _, metrics = load(path, torch.float64)
    out, _ = run(inputs, cfg, aggregation=aggregation)
    values = metric_values(out.metrics())
    assert set(metrics) == set(OURS) | set(QUANTILES) | DIFFERENT
    for theirs, ours in OURS.items():
        assert values[ours] == pytest.approx(metrics[theirs], rel=1e-8, abs=1e-8), theirs


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_quantiles_are_the_released_ones_to_the_width_of_a_bin(path, run):
    inputs, cfg, aggregation, _, metrics = load(path, torch.float64)
    out, _ = run(inputs, cfg, aggregation=aggregation)
    values = metric_values(out.metrics())
    for theirs, ours in QUANTILES.items():
        if metrics[theirs] == 0:  # no token of that sign
            assert values[ours] == 0
        else:
            log_ratio = abs(math.log(metrics[theirs]))
            error = abs(math.log(values[ours]) - math.log(metrics[theirs]))
            assert error <= 0.0163 * math.hypot(0.01, log_ratio), theirs


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_the_lower_clip_share_is_the_released_one_without_the_natural_ones(path, run):
    inputs, cfg, aggregation, _, metrics = load(path, torch.float64)
    out, _ = run(inputs, cfg, aggregation=aggregation)
    released = metrics["influence_clip_fraction_lower"]
    low, mask = cfg.influence_bounds[0], inputs.loss_mask
    at_bound = mask & (out.influence_weights <= low)
    assert int(at_bound.sum()) / int(mask.sum()) == pytest.approx(released, abs=1e-8)
    natural = at_bound & (out.future_kl.exp() >= low - ROUNDING)  # 1 by nature, or brought there by the safety rule
    ours = metric_values(out.metrics())["fipo/influence_weight/clipped_low"]
    assert ours == pytest.approx(int((at_bound & ~natural).sum()) / int(mask.sum()), abs=1e-12)


def test_some_vector_has_natural_ones(run):
    path = next(path for path in VECTORS if path.stem == "on_policy")
    inputs, cfg, aggregation, _, metrics = load(path, torch.float64)
    out, _ = run(inputs, cfg, aggregation=aggregation)
    assert metrics["influence_clip_fraction_lower"] == pytest.approx(1.0)
    assert metric_values(out.metrics())["fipo/influence_weight/clipped_low"] == 0.0
