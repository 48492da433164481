"""Every rule fires where it should and nowhere else: on top of one recipe that none has anything to say of."""

from pathlib import Path

import pytest
import torch

from fipo.doctor.findings import Finding
from fipo.doctor.recipe.settings import RULES, setting_findings
from fipo.training.recipe import Recipe, load_recipe

CPU = torch.device("cpu")
FILE = '{ source = "file", path = "x.jsonl", template = "boxed" }'
HARMLESS = {"objective.preset": "release_7b"}  # two-sided bounds, a safety threshold below the dual clip


@pytest.fixture
def recipe(repository: Path):
    def load(**overrides: str) -> Recipe:
        written = {key.replace("__", "."): value for key, value in overrides.items()}
        return load_recipe(repository / "recipe" / "quickstart.toml", HARMLESS | written)

    return load


def keys_of(findings: list[Finding]) -> set[str]:
    return {finding.keys[0] for finding in findings}


def test_a_sound_recipe_gives_no_finding(recipe):
    assert setting_findings(recipe(), CPU) == []


# (what is changed in the sound recipe, the level and first key of what is then said)
FIRING = [
    ({"update__mini_batches": "1"}, "warning", "update.mini_batches"),
    ({"model__lora": "{}"}, "warning", "model.lora"),
    ({"rollout__top_p": "0.7"}, "warning", "rollout.top_p"),
    ({"rollout__top_k": "50"}, "warning", "rollout.top_k"),
    ({"data__train": FILE, "data__grader": "dapo"}, "warning", "data.train.template"),
    ({"data__eval": FILE, "data__grader": "dapo"}, "warning", "data.eval.template"),
    ({"update__warmup_steps": "51"}, "warning", "update.warmup_steps"),
    ({"model__dtype": "bfloat16"}, "warning", "model.dtype"),
    ({"model__dtype": "float16"}, "warning", "model.dtype"),
    ({"model__dtype": "float32", "model__matmul": "tf32"}, "note", "model.matmul"),
    ({"rollout__generation_batch": "16"}, "note", "rollout.generation_batch"),
    ({"eval__every": "50"}, "note", "eval.every"),
    ({"rollout__temperature": "0.9"}, "note", "rollout.temperature"),
    ({"objective__preset": "release_32b", "objective__influence_clip": "[0.8, 1.2]"}, "note", "objective"),
    ({"objective__influence_clip": "[1.0, 1.2]"}, "note", "objective"),
]


@pytest.mark.parametrize(("changes", "level", "key"), FIRING, ids=[str(changes) for changes, _, _ in FIRING])
def test_one_setting_that_cannot_do_what_it_says_gives_one_finding(changes, level, key, recipe):
    (finding,) = setting_findings(recipe(**changes), CPU)
    assert (finding.level, finding.keys[0]) == (level, key)


SILENT = [
    {"update__mini_batches": "1", "objective__preset": "dapo"},  # as DAPO is meant
    {"model__lora": "{}", "objective__preset": "grpo"},
    {"eval__top_p": "0.7"},  # the paper's evaluation
    {"data__train": FILE, "data__grader": "math"},
    {"data__eval": FILE.replace("boxed", "dapo"), "data__grader": "dapo"},
    {"update__warmup_steps": "32"},
    {"rollout__generation_batch": "17"},
    {"eval__every": "31"},
    {"run__steps": "4", "eval__every": "4"},  # a trial
    {"rollout__temperature": "0.9", "eval__temperature": "0.9"},
]


@pytest.mark.parametrize("changes", SILENT, ids=map(str, SILENT))
def test_what_only_looks_like_a_mistake_gives_none(changes, recipe):
    overrides = {"update__warmup_steps": "2"} | changes
    assert setting_findings(recipe(**overrides), CPU) == []


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_what_a_gpu_is_for(recipe, dtype):
    assert setting_findings(recipe(model__dtype=dtype), torch.device("cuda")) == []


def test_every_rule_is_seen_to_fire():
    assert len(RULES) <= len(FIRING)


def test_a_finding_names_its_keys_its_reason_and_its_remedy(recipe):
    (finding,) = setting_findings(recipe(update__mini_batches="1"), CPU)
    assert finding.where == "update.mini_batches" and finding.text.startswith("with 1 ")
    assert "DAPO" in finding.text and finding.advice.startswith("update.mini_batches = 4")
