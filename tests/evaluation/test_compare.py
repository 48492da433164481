import json
import random
import re
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.evaluation.helpers import folder_of, result

from fipo.errors import UserError
from fipo.evaluation.compare import compare, comparison_notes, paired_interval, t_quantile

few = settings(derandomize=True, deadline=None, max_examples=60)


@pytest.mark.parametrize(
    ("freedom", "value"),
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (10, 2.22814), (29, 2.04523), (1000, 1.96234)],
)
def test_the_quantile_is_that_of_the_tables(freedom, value):
    assert t_quantile(freedom) == pytest.approx(value, rel=1e-5)


def test_the_interval_of_a_difference_has_a_known_value():
    """t(3) * stdev / 2 with stdev = sqrt(0.02 / 3)."""
    low, high = paired_interval([0.1, 0.2, 0.1, 0.2 + 0.0])
    assert (low, high) == pytest.approx((0.15 - 3.182446 * 0.0577350 / 2, 0.15 + 3.182446 * 0.0577350 / 2), abs=1e-6)


differences = st.lists(st.integers(-8, 8).map(lambda c: c / 8), min_size=1, max_size=40)


@few
@given(values=differences)
def test_an_interval_contains_the_mean_and_has_a_width(values):
    low, high = paired_interval(values)
    assert -1 <= low <= fmean(values) + 1e-12
    assert fmean(values) - 1e-12 <= high <= 1
    assert high - low > 0


@few
@given(values=differences)
def test_the_other_way_round_it_is_the_mirror_image(values):
    low, high = paired_interval(values)
    assert paired_interval([-value for value in values]) == pytest.approx((-high, -low))


def test_an_interval_needs_a_problem():
    with pytest.raises(ValueError, match="an interval needs at least one problem, got none"):
        paired_interval([])


@pytest.mark.slow
@pytest.mark.parametrize("gain", [0.0, 0.1])
@pytest.mark.parametrize(("problems", "samples"), [(30, 1), (30, 8), (200, 4)])
def test_the_intervals_cover_the_difference_of_two_models(problems, samples, gain):
    """B is better by `gain` on half of the problems; 95% nominal."""
    rng = random.Random(0)

    def share(chance):
        return sum(rng.random() < chance for _ in range(samples)) / samples

    covered = 0
    for _ in range(1000):
        values = []
        for _ in range(problems):
            chance = 0.9 * rng.betavariate(0.7, 0.7)
            values.append(share(chance + (gain if rng.random() < 0.5 else 0.0)) - share(chance))
        low, high = paired_interval(values)
        covered += low <= gain / 2 <= high
    assert covered / 1000 >= 0.93


def test_pairing_makes_it_narrower_than_two_intervals_apart(tmp_path):
    rng = random.Random(0)
    easy = [rng.random() < 0.5 for _ in range(100)]
    a = folder_of(tmp_path / "a", [result(str(i), [e, e and i % 7 > 0]) for i, e in enumerate(easy)])
    b = folder_of(tmp_path / "b", [result(str(i), [e, e]) for i, e in enumerate(easy)])
    figure = compare(a.path, b.path)["differences"]["avg@2"]
    assert figure["difference"] == pytest.approx(fmean(e and i % 7 == 0 for i, e in enumerate(easy)) / 2)
    assert 0 < figure["ci"][0] < figure["difference"] < figure["ci"][1] < 0.1


def test_the_differences_are_those_of_a_hand_count(tmp_path):
    a = folder_of(tmp_path / "a", [result("1", [True, False]), result("2", [False, False]), result("3", [True, True])])
    b = folder_of(tmp_path / "b", [result("2", [True, False]), result("1", [True, True]), result("4", [True, True])])
    comparison = compare(a.path, b.path)
    assert (comparison["problems"], comparison["only_in_a"], comparison["only_in_b"]) == (2, 1, 1)
    found = {name: (f["a"], f["b"], f["difference"]) for name, f in comparison["differences"].items()}
    assert found == {"avg@2": (0.25, 0.75, 0.5), "cons@2": (0.25, 0.75, 0.5), "pass@2": (0.5, 1.0, 0.5)}
    assert comparison_notes(comparison) == [
        f"A: {a.path}: a at http://x/v1",
        f"B: {b.path}: b at http://x/v1",
        f"1 problem is only in {a.path}; left out",
        f"1 problem is only in {b.path}; left out",
    ]
    json.dumps(comparison, allow_nan=False)


def test_with_another_number_of_samples_pass_at_the_smaller_one_is_compared_and_no_majority(tmp_path):
    a = folder_of(tmp_path / "a", [result("1", [True, False, False, False])], samples=4)
    b = folder_of(tmp_path / "b", [result("1", [True, False])], samples=2)
    comparison = compare(a.path, b.path)
    found = {name: (f["a"], f["b"]) for name, f in comparison["differences"].items()}
    assert found == {"avg": (0.25, 0.5), "pass@2": (0.5, 1.0)}
    assert comparison["settings_that_differ"] == ["sampling.samples"]
    assert comparison_notes(comparison)[2:] == ["note: the two differ in sampling.samples as well"]


def test_nothing_in_common_is_refused(tmp_path):
    a = folder_of(tmp_path / "a", [result("1", [True])])
    b = folder_of(tmp_path / "b", [result("2", [True]), result("3", [True])])
    with pytest.raises(UserError) as refused:
        compare(a.path, b.path)
    assert str(refused.value) == f"{a.path} and {b.path} share no problem (1 and 2, compared by their ids)"


@pytest.mark.parametrize("name", ["prompt", "expected"])
def test_two_problems_under_one_id_are_refused(name, tmp_path):
    a = folder_of(tmp_path / "a", [result("1", [True])])
    b = folder_of(tmp_path / "b", [result("1", [True], **{name: "another"})])
    with pytest.raises(UserError, match=f"problem 1 has another {name} in .*a than in .*b"):
        compare(a.path, b.path)


def test_an_evaluation_that_is_not_there_or_not_finished_is_refused(tmp_path):
    a = folder_of(tmp_path / "a", [result("1", [True])])
    with pytest.raises(UserError, match=r"no: holds no evaluation \(it has no results\.jsonl\)"):
        compare(a.path, tmp_path / "no")
    a.summary.unlink()
    with pytest.raises(UserError, match="not finished; run the command that began it again"):
        compare(a.path, a.path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("results.jsonl", "[1]\n"),
        ("results.jsonl", '{"key": "a", "id": "a", "prompt": "?", "expected": "4", "samples": []}\n'),
        ("results.jsonl", '{"key": "a", "id": "a", "prompt": "?", "expected": "4", "samples": [{"correct": 1}]}\n'),
        ("results.jsonl", '{"key": "a", "id": [1], "prompt": "?", "expected": "4", "samples": []}\n'),
        ("summary.json", "[1]"),
        ("summary.json", "[" * 100_000),
        ("summary.json", '{"answered_by": {"model": 3, "url": 4}, "recipe": {"data": {}, "sampling": {}}}'),
        ("summary.json", '{"answered_by": {"model": "a", "url": "b"}, "recipe": {"data": 3, "sampling": {}}}'),
    ],
)
def test_a_folder_whose_files_have_another_shape_is_named(tmp_path, file, content):
    for name in ("a", "b"):
        folder_of(tmp_path / name, [result("a", [True])])
    (tmp_path / "b" / file).write_text(content)
    with pytest.raises(UserError, match=rf"{re.escape(file)}.*: damaged: "):
        compare(tmp_path / "a", tmp_path / "b")
