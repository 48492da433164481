import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fipo.objective import Max, Mean, Min, RatioHistogram, Std, Sum, merge_metrics, metric_values
from fipo.objective.metrics import QUANTILES, RATIO_BINS, ratio_bins

REPEATABLE = settings(derandomize=True, deadline=None, database=None, max_examples=60)
NUMBERS = st.lists(st.floats(-1e6, 1e6), max_size=8)
LOG_RATIOS = st.lists(st.one_of(st.floats(-20, 20), st.floats(-0.2, 0.2), st.just(0.0)), min_size=1, max_size=30)


def std_of(values):
    mean = math.fsum(values) / len(values) if values else 0.0
    return Std(len(values), mean, math.fsum((v - mean) ** 2 for v in values))


def histogram_of(log_ratios, quantiles=tuple(QUANTILES)):
    x = torch.tensor(log_ratios, dtype=torch.float64)
    counts = torch.bincount(ratio_bins(x), minlength=RATIO_BINS)
    low, high = min(log_ratios, default=math.inf), max(log_ratios, default=-math.inf)
    return RatioHistogram(tuple(counts.tolist()), Min(low), Max(high), quantiles)


def test_each_scalar_metric_merges_by_its_own_rule():
    assert (Mean(6, 2) + Mean(2, 2)).value == 2.0
    assert (Sum(3) + Sum(4)).value == 7
    assert (Max(3) + Max(4) + Max(1)).value == 4
    assert (Min(3) + Min(-4) + Min(1)).value == -4


@REPEATABLE
@given(NUMBERS, NUMBERS)
def test_the_std_of_two_parts_is_the_std_of_all(a, b):
    merged, whole = std_of(a) + std_of(b), std_of(a + b)
    assert merged.value == pytest.approx(whole.value, rel=1e-9, abs=1e-9)
    if a + b:
        assert whole.value == pytest.approx(torch.tensor(a + b, dtype=torch.float64).std(correction=0).item(), rel=1e-9)


def test_the_std_of_close_values_around_a_large_mean_keeps_its_digits():
    assert (std_of([1e9, 1e9 + 2]) + std_of([1e9 + 4, 1e9 + 6])).value == pytest.approx(math.sqrt(5), rel=1e-12)


@pytest.mark.parametrize(
    "empty", [Mean(0, 0), Sum(0), Max(-math.inf), Min(math.inf), Std(0, 0, 0)], ids=lambda m: type(m).__name__
)
def test_a_metric_over_nothing_is_zero_and_changes_nothing_when_merged(empty):
    assert (empty + empty).value == 0.0
    kind = type(empty)
    some = {Mean: Mean(3, 2), Sum: Sum(3), Max: Max(-3), Min: Min(3), Std: Std(2, 1.0, 4.0)}[kind]
    assert empty + some == some
    assert some + empty == some


def test_a_nan_is_not_lost_in_a_merge():
    for metric in (
        Max(math.nan) + Max(1),
        Max(1) + Max(math.nan),
        Min(math.nan) + Min(1),
        Min(1) + Min(math.nan),
    ):
        assert math.isnan(metric.value)


@REPEATABLE
@given(LOG_RATIOS)
def test_the_quantiles_are_right_to_a_bin_and_the_extremes_exactly(log_ratios):
    got = histogram_of(log_ratios).values("r")
    ratios = torch.tensor(log_ratios, dtype=torch.float64).exp()
    resolution = max(0.0163 * math.hypot(0.01, x) for x in log_ratios)
    for name, q in QUANTILES.items():
        expected = torch.quantile(ratios, q).item()
        assert abs(math.log(got[f"r/{name}"]) - math.log(expected)) <= resolution
    assert got["r/min"] == pytest.approx(ratios.min().item(), rel=1e-14)
    assert got["r/max"] == pytest.approx(ratios.max().item(), rel=1e-14)


@REPEATABLE
@given(LOG_RATIOS, LOG_RATIOS)
def test_two_histograms_merge_to_the_histogram_of_all(a, b):
    assert histogram_of(a) + histogram_of(b) == histogram_of(a + b)


def test_quantiles_near_one_are_fine_and_those_far_out_are_not_worse_than_two_percent():
    x = torch.linspace(-0.01, 0.01, 2001, dtype=torch.float64)
    got = histogram_of(x.tolist()).values("r")
    assert got["r/p25"] == pytest.approx(math.exp(-0.005), abs=1e-4)
    far = histogram_of([1.0, 1.0, 1.0, 5.0]).values("r")
    assert far["r/median"] == pytest.approx(math.e, rel=0.017)


def test_a_value_alone_in_its_bin_is_read_at_the_middle_of_the_bin():
    middle = 0.01 * math.sinh(200.5 * math.asinh(20 / 0.01) / 512)
    off = [x - middle for x in (0.995 * middle, middle, 1.005 * middle)]  # all in one bin, 1.6% wide
    for shift in off:
        got = histogram_of([-9.0, middle + shift, 9.0]).values("r")
        assert math.log(got["r/median"]) == pytest.approx(middle, rel=1e-9)


def test_a_histogram_of_equal_values_gives_that_value_exactly():
    assert set(histogram_of([0.0] * 9).values("r").values()) == {1.0}


def test_an_empty_histogram_gives_zeros():
    assert set(histogram_of([]).values("r").values()) == {0.0}


def test_the_bins_cover_the_clamp_in_order():
    x = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    bins = ratio_bins(x)
    assert bins[0] == 0
    assert bins[-1] == RATIO_BINS - 1
    assert (bins.diff() >= 0).all()
    assert ratio_bins(torch.tensor(0.0)) == RATIO_BINS // 2
    assert 0 <= ratio_bins(torch.tensor(math.nan)) < RATIO_BINS


def test_merging_takes_the_union_of_the_names():
    merged = merge_metrics([{"a": Sum(1), "b": Mean(1, 1)}, {"a": Sum(2)}, {"c": Max(5)}])
    assert metric_values(merged) == {"a": 3, "b": 1.0, "c": 5}
    assert merge_metrics([]) == {}


def test_one_name_measured_in_two_ways_is_refused():
    with pytest.raises(ValueError, match=r"^metric a must be of one type in every part, got Sum and Mean$"):
        merge_metrics([{"a": Sum(1)}, {"a": Mean(1, 1)}])


def test_a_histogram_is_logged_as_its_quantiles():
    values = metric_values({"n": Sum(2), "r": histogram_of([0.0], ("p25", "max"))})
    assert values == {"n": 2, "r/p25": 1.0, "r/max": 1.0}
