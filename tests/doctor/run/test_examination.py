import re
from functools import reduce
from pathlib import Path

import fipo.doctor.run
from fipo.doctor.run.examination import RULES, examine
from fipo.training.recipe import Recipe


def test_the_quickstart_is_healthy_and_every_rule_is_accounted_for(history):
    found = examine(history())
    assert found.healthy and not found.failing
    assert list(found.findings) == ["weights_idle"]
    # Too short; and recorded before there were these metrics, without its rollouts.
    recorded_before = {"ratio_off", "no_response_signal", "spread_off", "weights_are_rounding"}
    assert set(found.unchecked) == {"length_stall", *recorded_before}
    assert {*found.findings, *found.clear, *found.unchecked} == set(RULES)


def test_the_gravest_finding_comes_first(history):
    found = examine(history(lambda step, _: {"rollout/logprob_gap/mean": 0.05, "grade/no_answer": step / 100}))
    assert [finding.level for finding in found.findings.values()] == ["problem", "warning", "note"]
    assert found.failing and not found.healthy


def test_a_run_with_unknown_metrics_alone_breaks_no_rule(history):
    only = history(lambda _, line: dict.fromkeys(line.keys() - {"step"}) | {"verl/actor": 1.0})
    assert examine(only).findings == {}
    assert set(examine(only).unchecked) == set(RULES)


def test_each_key_may_be_missing_from_some_steps(history):
    """A step without an update lacks some of them, and what was collected has gaps."""
    keys = history().training[0].keys() - {"step"}
    for key in keys:
        examine(history(lambda step, _, key=key: {key: None} if step % 3 else {}))


def test_the_documentation_lists_exactly_the_rules_that_exist(repository):
    text = (repository / "docs" / "doctor.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(RULES)


def test_every_recipe_key_that_is_advised_exists():
    """In the rules' own text: `update.learning_rate` and the like."""
    sources = "".join(path.read_text() for path in Path(fipo.doctor.run.__file__).parent.glob("rules_*.py"))
    advised = set(re.findall(rf"(?<![\w.])((?:{'|'.join(Recipe.model_fields)})\.[a-z_]+)\b", sources))
    assert "update.learning_rate" in advised and len(advised) > 15
    for key in advised:
        reduce(lambda model, name: model.model_fields[name].annotation, key.split("."), Recipe)
