import pytest
from tests.study.credit.conftest import ROOT

from fipo.grading.table import GradingTable
from fipo.study.credit.design import load_design
from fipo.study.credit.measure import measure
from fipo.study.credit.policy import recipe_of

SMALL = {
    "credit.groups": "3",
    "credit.target_problems": "8",
    "credit.branches": "4",
    "credit.shuffles": "1",
    "credit.steps": "[2]",
    "cells.r4_l0.mini_batches": "2",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["once", "two epochs", "siblings"])
def test_a_checkpoint_is_measured_from_its_own_run_whatever_was_trained_on(kind, monkeypatch):
    monkeypatch.chdir(ROOT)
    design = load_design(ROOT / "recipe" / "study" / "credit_truth.toml", SMALL | {"cells.r4_l0.kind": kind})
    with GradingTable(workers=1).pool("relay") as graders:
        graders.start()
        record = measure(design, "r4_l0", 1, graders)
    assert (record["number"], record["seed"], record["step"]) == (1, 1, 2)
    assert record["spread"] > 0
    assert len(record["groups"]) == 3 or (kind == "two epochs" and len(record["groups"]) == 2)
    assert sum(group["x, A"][0] for group in record["groups"]) == record["tokens"]
    assert record["cosines"]["dapo"][1] == pytest.approx(1.0)
    assert {"truth", "critic", "fipo 1.0-1.2/shuffled_0"} <= set(record["cosines"])
    assert {kind for kind, *_ in record["branches"]} <= {0, 1} and record["branches"]


@pytest.mark.slow
def test_of_a_task_without_exact_advantages_what_was_in_doubt_is_continued(monkeypatch):
    monkeypatch.chdir(ROOT)
    design = load_design(ROOT / "recipe" / "study" / "credit_truth.toml", SMALL | {"cells.sums_r4.mini_batches": "2"})
    with GradingTable(workers=1).pool("number") as graders:
        graders.start()
        record = measure(design, "sums_r4", 1, graders)
    assert len(record["groups"]) == 3
    assert record["branches"] == []
    n, _, total, _, squares, _ = (sum(group["x, A"][i] for group in record["groups"]) for i in range(6))
    assert n == record["tokens"]
    assert squares > 0
    assert abs(total) / n < 0.2  # a sum of V(after) - V(before): of each response R - V at its start
    assert 0 < record["cosines"]["truth"][0] < 1


def test_a_cell_that_wants_a_third_of_the_spread_begins_with_a_third_of_the_rate(monkeypatch):
    monkeypatch.chdir(ROOT)
    design = load_design(ROOT / "recipe" / "study" / "credit_truth.toml", {})
    usual, small = (
        recipe_of(design, design.cells[name], 0).update.learning_rate for name in ("r32_l8", "r32_l8_small")
    )
    assert usual == pytest.approx(design.credit.learning_rate)
    assert small == pytest.approx(usual / 3)
