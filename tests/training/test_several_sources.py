"""Runs on several sources: by weight to train on, by name to be measured on, in their own order."""

import gzip
import json
from pathlib import Path

import pytest
from tests.training.helpers import run_recipe
from tests.training.test_metrics_doc import Doc

from fipo.errors import UserError
from fipo.training import load_recipe


def write(path: Path, numbers: range) -> None:
    rows = [{"prompt": f"{i}=", "answer": i % 3, "level": i} for i in numbers]
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def untimed(line: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in line.items() if not key.startswith("time/")}


@pytest.fixture
def sources(folder: Path) -> dict[str, str]:
    for name, numbers in (("a", range(30)), ("b", range(20, 60)), ("c", range(60, 64)), ("d", range(64, 70))):
        write(folder / f"{name}.jsonl.gz", numbers)
    a, b, c, d = (f'{{ source = "file", path = "{folder}/{name}.jsonl.gz" ' for name in "abcd")
    return {"data__train": f"[{a} }}, {b}, weight = 2.0 }}]", "data__eval": f"{{ low = {c} }}, high = {d} }} }}"}


def test_each_source_for_evaluation_has_every_metric_beside_those_of_all(
    folder: Path, sources: dict[str, str], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_recipe(folder, "run", run__steps="1", **sources)
    base = run.read_metrics()[0]
    doc = Doc((repository / "docs" / "metrics.md").read_text())
    evaluation = doc.keys("Steps with an evaluation") - {"time/eval"}
    own = {key.replace("eval/", f"eval/{name}/", 1) for key in evaluation for name in ("low", "high")}
    assert set(base) == {"step", "time/eval"} | evaluation | own
    assert base["eval/avg_at_k"] == pytest.approx(0.4 * base["eval/low/avg_at_k"] + 0.6 * base["eval/high/avg_at_k"])
    out = capsys.readouterr().out
    assert "on 10 held-out problems" in out and "  high: greedy 0." in out
    assert "data.train.1: 10 problems are in an earlier source, too; left out" in out


def test_a_run_on_several_sources_goes_on_where_it_was(folder: Path, sources: dict[str, str]) -> None:
    whole = run_recipe(folder, "whole", run__steps="2", checkpoint__every="1", **sources).read_metrics()
    run_recipe(folder, "halved", run__steps="1", checkpoint__every="1", **sources)
    halved = run_recipe(folder, "halved", run__steps="2", checkpoint__every="1", resume=True, **sources).read_metrics()
    assert untimed(whole[-1]) == untimed(halved[-1])


def test_without_shuffling_the_problems_come_in_the_order_of_the_source(folder: Path, sources: dict[str, str]) -> None:
    run = run_recipe(folder, "run", run__steps="1", data__shuffle="false", telemetry__rollout_groups="9")
    drawn = [int(rollout["prompt"].rstrip("=")) for rollout in run.read_rollouts(1)]
    assert drawn == sorted(drawn) and max(drawn) < 40


def test_a_named_source_takes_the_place_of_the_one_that_the_recipe_has(folder: Path, sources: dict[str, str]) -> None:
    above = folder / "above.toml"
    above.write_text(
        f'extends = "recipe.toml"\n[data.eval.low]\nsource = "file"\npath = "{folder}/c.jsonl.gz"\n'
        f'[[data.train]]\nsource = "file"\npath = "{folder}/a.jsonl.gz"\n'
    )
    assert load_recipe(above, {}).data.eval_names == ["low"]
    assert load_recipe(above, {"data.eval.low.path": "x.jsonl"}).data.eval["low"].path == "x.jsonl"


MISTAKES = [
    (
        {"data.train": '[{ source = "file", path = "x", templat = "dapo" }]'},
        "unknown key data.train.0.templat (did you mean template?)",
    ),
    ({"data.train": "[]"}, "data.train: must have at least 1 item"),
    ({"data.train": '[{ path = "x" }]'}, "data.train.0.source is missing"),
    (
        {"data.eval": '{ a = { source = "file", path = "x", templat = "dapo" } }'},
        "unknown key data.eval.a.templat (did you mean template?)",
    ),
    ({"data.eval.weight": "2.0"}, "data.eval: weight is for one of several training sources, [[data.train]]"),
    ({"data.train.columns": '{ prompt = "q" }'}, "data.train.columns: must say which column is the answer"),
]


@pytest.mark.parametrize(("overrides", "message"), MISTAKES)
def test_a_mistake_in_one_of_several_sources_is_named_by_its_key(
    overrides: dict[str, str], message: str, folder: Path
) -> None:
    with pytest.raises(UserError) as refused:
        load_recipe(folder / "recipe.toml", overrides)
    assert message in str(refused.value) and "\n" not in str(refused.value)
