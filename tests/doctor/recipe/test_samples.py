from pathlib import Path

import pytest
from tests.training.helpers import random_groups

from fipo.doctor.recipe.samples import SampleFigures, figures_of, gap_findings, mixed_share, sample_findings
from fipo.grading.grade import Grade
from fipo.training.recipe import load_recipe


@pytest.fixture
def recipe(repository: Path):
    return load_recipe(repository / "recipe" / "quickstart.toml", {})


def figures(**changed: float) -> SampleFigures:
    sound = {
        "responses": 16, "stopped": 1.0, "answered": 1.0, "correct": 0.3, "mean_length": 20.0, "length_error": 2.0,
        "longest": 50, "mean_prompt": 10.0, "mixed": 0.8,
    }  # fmt: skip
    return SampleFigures(**(sound | changed))  # type: ignore[arg-type]


def test_figures_are_those_of_the_responses():
    groups = random_groups(3, 2, seed=1)
    responses = [response for group in groups for response in group.responses]
    found = figures_of(groups, group_size=8)
    assert found.responses == 6
    assert found.correct == 0.5  # of each group the first is correct and the last is not
    assert found.answered == 1
    assert found.stopped == sum(not response.truncated for response in responses) / 6
    assert found.mean_length == pytest.approx(sum(len(response.tokens) for response in responses) / 6)
    assert found.longest == max(len(response.tokens) for response in responses)


def test_one_response_has_a_length_without_an_error():
    group = random_groups(1, 2)[0]
    only = type(group)(**vars(group) | {"responses": group.responses[:1], "grades": group.grades[:1]})
    assert figures_of([only], group_size=2).length_error == 0


def test_the_expected_share_of_mixed_groups_is_an_integral_over_the_posterior():
    for correct, samples, group_size in ((0, 2, 8), (1, 2, 8), (2, 2, 8), (3, 7, 5), (0, 0, 2)):
        weights = [i / 20000 for i in range(1, 20000)]
        density = [p ** (correct - 0.5) * (1 - p) ** (samples - correct - 0.5) for p in weights]
        alike = sum(d * (p**group_size + (1 - p) ** group_size) for d, p in zip(density, weights, strict=True))
        assert mixed_share(correct, samples, group_size, 0.5) == pytest.approx(1 - alike / sum(density), abs=5e-3)


def test_mixed_groups_are_likelier_in_larger_groups_and_when_samples_disagree():
    assert mixed_share(1, 2, 8, 0.5) > mixed_share(0, 2, 8, 0.5) == pytest.approx(mixed_share(2, 2, 8, 0.5))
    assert mixed_share(0, 2, 16, 0.5) > mixed_share(0, 2, 8, 0.5) > mixed_share(0, 2, 8, 0.1)


@pytest.mark.parametrize(
    ("changed", "key", "word"),
    [
        ({"stopped": 0.4}, "rollout.max_response_tokens", "cut off after 160 tokens"),
        ({"answered": 0.4}, "data.grader", 'the grader "number" found an answer'),
        ({"correct": 0.0}, "data.train", "all of 16 responses are wrong"),
        ({"correct": 1.0}, "data.train", "all of 16 responses are right"),
    ],
)
def test_a_rate_that_is_too_low_gives_one_warning_with_a_remedy(changed, key, word, recipe):
    (finding,) = sample_findings(recipe, random_groups(2, 2), figures(**changed))
    assert finding.level == "warning"
    assert finding.keys == (key,)
    assert word in finding.text
    assert finding.advice


def test_ordinary_responses_give_none(recipe):
    assert sample_findings(recipe, random_groups(2, 2), figures(stopped=0.5, answered=0.5)) == []


def test_a_grader_that_fails_is_named_with_its_reason(recipe):
    groups = random_groups(2, 2)
    groups[1].grades[0] = Grade(outcome="timeout", answer=None, reason="no grade within 10 s")
    (finding,) = sample_findings(recipe, groups, figures())
    assert finding.text.startswith("1 grades failed, the first on problem 1: timeout (no grade within 10 s)")


def numbered(*rewards: float):
    (group,) = random_groups(1, len(rewards))
    grades = [Grade(outcome="wrong", answer=None, score=reward) for reward in rewards]
    return [type(group)(**vars(group) | {"grades": grades})]


def test_a_grader_that_fails_on_everything_is_a_problem_with_its_error(recipe):
    groups = random_groups(2, 2)
    for group in groups:
        group.grades[:] = [Grade(outcome="crash", answer=None, reason="TypeError: got str")] * 2
    finding = sample_findings(recipe, groups, figures())[0]
    assert finding.level == "problem" and "crash (TypeError: got str): the run would stop" in finding.text


def test_numbers_that_vary_are_a_contrast_without_a_right_answer(recipe):
    groups = numbered(0.1, 0.2)
    found = figures_of(groups, group_size=8)
    assert found.reward == pytest.approx(0.15) and found.mixed > 0.9 and found.correct == 0
    assert sample_findings(recipe, groups, found) == []


def test_numbers_that_do_not_vary_are_none(recipe):
    groups = numbered(0.5, 0.5)
    found = figures_of(groups, group_size=8)
    (finding,) = sample_findings(recipe, groups, found)
    assert "all of 2 responses have the reward 0.5" in finding.text and found.mixed < 0.7


def test_a_gap_of_log_probs_is_a_warning_unless_it_is_weighed_out(repository):
    path = repository / "recipe" / "quickstart.toml"
    assert gap_findings(load_recipe(path, {}), 0.01) == []
    (finding,) = gap_findings(load_recipe(path, {}), 0.05)
    assert "0.05 nats" in finding.text
    assert gap_findings(load_recipe(path, {"objective.importance_weight_cap": "2.0"}), 0.05) == []
