import pytest

from fipo.study.endpoints import ENDPOINTS


def run_of(lengths, dual_clipped=()):
    return [
        {"step": step, "response_length/mean": length, "policy/dual_clip_fraction": 0.01 * (step in dual_clipped)}
        for step, length in enumerate(lengths, start=1)
    ]


@pytest.mark.parametrize(
    ("lengths", "dual_clipped", "spiked", "collapsed", "spiked_first"),
    [
        ([10, 20, 30, 28], (), 0.0, 0.0, None),
        ([10, 20, 30, 28], (2,), 1.0, 0.0, None),
        ([10, 20, 30, 15], (2,), 1.0, 1.0, 1.0),
        ([10, 20, 30, 15, 20], (5,), 1.0, 1.0, 0.0),
        ([10, 20, 30, 15], (), 0.0, 1.0, 0.0),
    ],
)
def test_a_collapse_is_half_of_the_greatest_length_and_a_spike_counts_when_it_comes_before(
    lengths, dual_clipped, spiked, collapsed, spiked_first
):
    lines = run_of(lengths, dual_clipped)
    values = [ENDPOINTS[name].value(lines) for name in ("spiked", "collapsed", "spiked_first")]
    assert values == [spiked, collapsed, spiked_first]


def test_endpoints_leave_the_base_models_own_line_out_of_training_and_keep_it_for_evaluations():
    lines = [{"step": 0, "eval/avg_at_k": 0.9, "reward/mean": 9.0}, {"step": 1, "reward/mean": 0.5}]
    lines.append({"step": 2, "reward/mean": 0.7, "eval/avg_at_k": 0.6})
    values = {name: ENDPOINTS[name].value(lines) for name in ("reward", "avg_at_k", "best_avg_at_k", "length")}
    assert values == {"reward": pytest.approx(0.6), "avg_at_k": 0.6, "best_avg_at_k": 0.9, "length": None}


def test_a_run_whose_surrogate_has_no_dual_clip_has_no_spikes_to_count():
    lines = [{"step": step, "response_length/mean": length} for step, length in enumerate((10.0, 20.0, 5.0))]
    assert ENDPOINTS["spiked"].value(lines) is None
    assert ENDPOINTS["spiked_first"].value(lines) is None
    assert ENDPOINTS["collapsed"].value(lines) == 1
