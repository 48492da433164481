from pathlib import Path

import pytest

from fipo.report.data import RunGroup, arms, columns, drawn_columns, named
from fipo.telemetry.run_directory import RunDirectory


def config(seed=0, name="a", preset="dapo", train="11"):
    return {
        "run": {"name": name, "seed": seed, "folder": f"runs/{name}", "steps": 4},
        "objective": {"preset": preset},
        "resolved": {"aggregation": "token-mean", "data": {"train_sha256": train}},
    }


def test_runs_that_differ_in_seed_name_and_folder_alone_are_seeds_of_one_arm():
    configs = {
        "sums_s0": config(0, "sums_s0", train="11"),
        "other": config(0, "other", preset="release_32b"),
        "sums_s1": config(1, "sums_s1", train="22"),  # the seed draws the problems
    }
    assert arms(configs) == [
        RunGroup(name="sums", runs=("sums_s0", "sums_s1"), seeds=(0, 1)),
        RunGroup(name="other", runs=("other",), seeds=()),
    ]


@pytest.mark.parametrize("section, value", [("objective", "release_32b"), ("run", 5), ("versions", "2.13")])
def test_any_other_difference_makes_two_arms(section, value):
    other = config(seed=1)
    other.setdefault(section, {})["preset" if section == "objective" else "steps"] = value
    assert len(arms({"a": config(), "b": other})) == 2


def test_the_same_seed_again_is_another_run_and_not_another_seed():
    assert [arm.runs for arm in arms({"a": config(), "b": config(), "c": config(1)})] == [("a", "c"), ("b",)]


def test_runs_that_do_not_say_their_seed_stay_apart():
    assert [arm.runs for arm in arms({"a": {"run": {"name": "a"}}, "b": {"run": {"name": "b"}}})] == [("a",), ("b",)]


@pytest.mark.parametrize(
    "names, arm",
    [
        (["sums_seed0", "sums_seed1"], "sums"),
        (["sums-s10", "sums-s11"], "sums"),
        (["seed0", "seed1"], "seed0, seed1"),
        (["one", "two"], "one, two"),
        (["runs0", "runs1"], "runs"),
        (["dapo", "dapo_1"], "dapo"),
    ],
)
def test_an_arm_is_called_what_the_names_of_its_seeds_share(names, arm):
    assert [group.name for group in arms({name: config(i) for i, name in enumerate(names)})] == [arm]


def test_arms_whose_seeds_share_one_name_are_called_by_their_runs():
    names = {"x_1": config(0), "x_2": config(1), "x_3": config(0, preset="p"), "x_4": config(1, preset="p")}
    assert [arm.name for arm in arms(names)] == ["x_1, x_2", "x_3, x_4"]


def test_columns_have_a_place_for_every_step_and_no_column_without_a_value():
    lines = [{"step": 0, "eval/greedy": 0.5}, {"step": 1, "reward/mean": 0.1}]
    assert columns(lines, ["reward/mean", "policy/kl", "eval/greedy"]) == {
        "step": [0, 1],
        "reward/mean": [None, 0.1],
        "eval/greedy": [0.5, None],
    }


def test_runs_of_one_name_are_called_by_their_paths_and_one_run_twice_is_one():
    monday, tuesday = Path("monday/first"), Path("tuesday/first")
    assert list(named([RunDirectory(monday), RunDirectory(tuesday)])) == ["monday/first", "tuesday/first"]
    assert list(named([RunDirectory(monday), RunDirectory(Path("monday/../monday/first"))])) == ["first"]


@pytest.mark.parametrize("key", ["fipo/influence_weight/clipped_low", "fipo/influence_weight/std"])
def test_a_baseline_whose_weights_are_all_1_has_none_at_a_bound_and_no_spread(key):
    line = {"step": 1, key: 0.3, "fipo/influence_weight/max": 1.0}
    assert key not in drawn_columns([line | {"fipo/influence_weight/min": 1.0}], [key])
    assert key in drawn_columns([line | {"fipo/influence_weight/min": 0.9}], [key])
