"""Relays through the trainer: what their rollouts know, and what true advantages change."""

from pathlib import Path

import pytest

from fipo.study.controls import CONTROLS
from fipo.telemetry.run_directory import RunDirectory
from fipo.training import load_recipe, train

ROOT = Path(__file__).parents[2]
SMALL = {
    "model.path": str(ROOT / "models" / "relay"),
    "run.steps": "1",
    "data.train.count": "40",
    "data.eval.count": "2",
    "eval.samples": "1",
    "rollout.groups": "4",
    "rollout.generation_batch": "8",
    "update.mini_batches": "2",
}


@pytest.fixture(scope="module")
def run_relay(tmp_path_factory):
    folder = tmp_path_factory.mktemp("relay")

    def run(name: str, control: str | None = None, preset: str = "dapo") -> RunDirectory:
        named = SMALL | {"run.folder": str(folder), "run.name": name, "objective.preset": preset}
        recipe = load_recipe(ROOT / "recipe" / "study" / "relay_base.toml", named)
        return train(recipe, quiet=True, control=CONTROLS[control] if control else None)

    return run


@pytest.fixture(scope="module")
def plain(run_relay):
    return run_relay("plain")


def test_the_rollouts_of_a_relay_know_each_tokens_true_advantage(plain):
    for record in plain.read_rollouts(1):
        known = dict(enumerate(record["true_advantage"]))
        assert len(known) == len(record["tokens"]) == len(record["log_ratio"])
        assert all(value == 0 for i, value in known.items() if not record["tokens"][i].isdigit())
        assert (record["outcome"] == "correct") == (min(known.values()) >= 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "control", ["relay_truth", "relay_truth_bounded", "branched_truth", "branched_truth_bounded", "critic"]
)
def test_other_advantages_train_another_policy_on_the_same_responses(control, plain, run_relay):
    other = run_relay(control, control)
    first, second = plain.read_metrics()[1], other.read_metrics()[1]
    assert first["reward/mean"] == second["reward/mean"]
    assert first["policy/grad_norm"] != second["policy/grad_norm"]
