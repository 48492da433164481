"""On the metrics and credit of a rehearsal: the real verl trainer, two steps."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from fipo.errors import UserError
from fipo.integrations.verl.launch.collect import collect, main
from fipo.integrations.verl.launch.recipe import load_launch_recipe
from fipo.integrations.verl.launch.translate import config_of, translate
from fipo.objective import FIPOConfig
from fipo.report import write_report

RUN = Path(__file__).parent / "verl_run"
RECIPE = Path(__file__).parents[4] / "recipe" / "fipo" / "fipo_qwen2.5_7b_math.toml"
SIZES = {  # what the rehearsal changed
    "verl.data.max_response_length": "64",
    "verl.data.train_batch_size": "8",
    "verl.actor_rollout_ref.actor.ppo_mini_batch_size": "4",
    "verl.actor_rollout_ref.rollout.n": "4",
}


def recipe_with(**overrides: str):
    return load_launch_recipe(RECIPE, {**SIZES, **overrides}, {"RAY_DATA_HOME": "/data"})


RECIPE_OF_RUN = recipe_with()


@pytest.fixture
def collected(tmp_path: Path):
    return collect(RECIPE_OF_RUN, [RUN / "metrics.jsonl"], tmp_path / "run", credit=RUN / "credit", dumps=None)


def verl_values(step: int) -> dict[str, float]:
    lines = [json.loads(line) for line in (RUN / "metrics.jsonl").read_text().splitlines()]
    return next(line["data"] for line in lines if line["step"] == step)


def test_every_step_is_there_once_under_our_names(collected) -> None:
    lines = collected.read_metrics()
    assert [line["step"] for line in lines] == [0, 1, 2]
    verl = verl_values(1)
    assert lines[1]["policy/kl"] == verl["actor/policy/kl"]
    assert lines[1]["policy/grad_norm"] == verl["actor/grad_norm"]
    assert lines[1]["fipo/influence_weight/max"] == verl["actor/fipo/influence_weight/max"]
    assert lines[1]["response_length/truncated"] == verl["response_length/clip_ratio"]
    assert lines[1]["verl/critic/advantages/max"] == verl["critic/advantages/max"]
    assert lines[0]["eval/avg_at_k"] == verl_values(0)["val-core/signed_sums/acc/mean@1"]


def test_what_a_step_generated_keeps_its_names(collected) -> None:
    line, verl = collected.read_metrics()[1], verl_values(1)
    for key in ("groups/generated", "groups/all_wrong", "reward/mean", "reward/overlong", "grade/failed"):
        assert line[key] == verl[key]
    assert line["policy/ratio_pos/p999"] == verl["actor/policy/ratio_pos/p999"]
    first, second = (line[f"fipo/mini_batch_{i}/influence_weight/std"] for i in range(2))
    assert first < 1e-6 < 1e-2 < second  # verl's own packs for the old log-probs: 0 up to rounding


def test_every_metric_of_the_released_code_is_there_by_the_page() -> None:
    """docs/verl.md has the released names, and ours with {a,b} for several."""
    page = (Path(__file__).parents[4] / "docs" / "verl.md").read_text()
    table = page.partition("| released, under `actor/` |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [line.strip("|").split("|")[:2] for line in table]
    assert sum(theirs.count("`") // 2 for theirs, _ in cells) == 28
    step = verl_values(2)
    for _, ours in cells:
        for name in re.findall("`([^`]+)`", ours):
            head, _, several = name.partition("{")
            for end in several.strip("}").split(","):
                assert f"actor/{head}{end}" in step


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        (
            "data.train_batch_size",
            "512",
            r"step 1: groups/kept 8 is not of a job with verl.data.train_batch_size 512: ",
        ),
        ("actor_rollout_ref.rollout.n", "32", r"step 1: responses 32 is not of a job with .* x rollout.n 256: "),
        ("actor_rollout_ref.actor.ppo_mini_batch_size", "8", r"step 1: updates 2 is not of a job with .* 1: give coll"),
        ("data.max_response_length", "16", r"step 1: response_length/max 64 is not of a job with verl.data.max_respo"),
    ],
)
def test_a_recipe_without_the_jobs_real_batch_is_refused(key: str, value: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=line):
        collect(
            recipe_with(**{f"verl.{key}": value}), [RUN / "metrics.jsonl"], tmp_path / "run", credit=None, dumps=None
        )
    assert not (tmp_path / "run").exists()


def metrics_without(tmp_path: Path, *prefixes: str) -> Path:
    """Those of the run as verl's own trainer would write them, which has no keys of ours."""
    path = tmp_path / "metrics.jsonl"
    lines = [json.loads(line) for line in (RUN / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line["data"] = {key: value for key, value in line["data"].items() if not key.startswith(prefixes)}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_batch_of_verls_own_trainer_is_known_from_its_tokens(tmp_path: Path) -> None:
    plain = metrics_without(tmp_path, "groups/", "actor/fipo/")
    collect(RECIPE_OF_RUN, [plain], tmp_path / "run", credit=None, dumps=None)
    recipe = recipe_with(**{"verl.data.train_batch_size": "512"})
    with pytest.raises(UserError, match=r"step 1: responses 32 is not of a job with .* 2048: "):
        collect(recipe, [plain], tmp_path / "other", credit=None, dumps=None)


def test_a_job_that_says_nothing_of_its_batch_is_refused(tmp_path: Path) -> None:
    silent = metrics_without(tmp_path, "groups/", "actor/fipo/", "perf/")
    with pytest.raises(
        UserError, match=r"step 1: holds neither groups/kept nor .* verl.data.train_batch_size 8 may not"
    ):
        collect(RECIPE_OF_RUN, [silent], tmp_path / "run", credit=None, dumps=None)


def test_evaluations_with_several_samples_and_sources_are_averaged() -> None:
    ours = translate(
        {
            "val-core/a/acc/mean@32": 0.5,
            "val-core/b/c/acc/mean@32": 0.1,
            "val-core/a/acc/mean@1": 0.9,
            "val-core/a/acc/maj@16/mean": 0.2,
            "val-core/a/acc/maj@32/mean": 0.6,
            "val-core/a/acc/maj@32/std": 0.7,
            "val-core/a/acc/best@32/mean": 0.8,
        },
        RECIPE_OF_RUN,
    )
    assert {key: value for key, value in ours.items() if key.startswith("eval/")} == {
        "eval/avg_at_k": pytest.approx(0.3),
        "eval/cons_at_k": 0.6,
        "eval/pass_at_k": 0.8,
    }


def test_rollouts_keep_their_credit_and_dumps_get_our_names(tmp_path: Path) -> None:
    dumps = tmp_path / "dumps"
    dumps.mkdir()
    dumped = {"input": "1+2=", "output": "#3", "gts": "3", "score": 1.0, "step": 2, "uid": "0_0_0"}
    (dumps / "2.jsonl").write_text(json.dumps(dumped) + "\n")
    run = collect(RECIPE_OF_RUN, [RUN / "metrics.jsonl"], tmp_path / "run", credit=RUN / "credit", dumps=dumps)
    assert len(run.read_rollouts(1)) == 2
    with_credit, plain = run.read_rollouts(2)
    assert len(with_credit["influence_weight"]) == len(with_credit["tokens"])
    assert plain.pop("problem") == "0"
    assert plain == {"step": 2, "prompt": "1+2=", "response": "#3", "expected": "3", "reward": 1.0}


def test_a_step_that_a_resumed_job_wrote_again_counts_as_in_the_later_file(tmp_path: Path) -> None:
    later = tmp_path / "later.jsonl"
    later.write_text(json.dumps({"step": 2, "data": {"actor/grad_norm": 7.0}}) + "\n")
    run = collect(RECIPE_OF_RUN, [RUN / "metrics.jsonl", later], tmp_path / "run", credit=None, dumps=None)
    assert run.read_metrics()[2]["policy/grad_norm"] == 7.0


def test_the_evaluation_that_a_resumed_job_begins_with_takes_nothing_from_its_step(tmp_path: Path) -> None:
    later = tmp_path / "later.jsonl"
    later.write_text(json.dumps({"step": 2, "data": {"val-core/signed_sums/acc/mean@1": 0.25}}) + "\n")
    run = collect(RECIPE_OF_RUN, [RUN / "metrics.jsonl", later], tmp_path / "run", credit=None, dumps=None)
    line = run.read_metrics()[2]
    assert line["eval/avg_at_k"] == 0.25 and line["policy/kl"] == verl_values(2)["actor/policy/kl"]


def test_the_half_line_of_a_killed_job_is_left_out(tmp_path: Path) -> None:
    killed = tmp_path / "metrics.jsonl"
    killed.write_text((RUN / "metrics.jsonl").read_text() + '{"step": 3, "da')
    run = collect(RECIPE_OF_RUN, [killed], tmp_path / "run", credit=None, dumps=None)
    assert [line["step"] for line in run.read_metrics()] == [0, 1, 2]


def test_what_verl_means_otherwise_becomes_ours() -> None:
    verl = {"response_length/max": 64.0, "response_length/clip_ratio": 0.25, "critic/score/mean": -0.5}
    ours = translate(verl, RECIPE_OF_RUN)
    assert (ours["response_length/truncated"], ours["reward/mean"]) == (0.25, -0.5)
    assert "groups/kept" not in ours  # verl's own trainer does not say
    assert translate({**verl, "reward/mean": -0.25}, RECIPE_OF_RUN)["reward/mean"] == -0.25
    # verl's share is of those as long as the longest of the batch, whether or not it was cut
    assert translate({**verl, "response_length/max": 63.0}, RECIPE_OF_RUN)["response_length/truncated"] == 0.0


def test_the_config_has_what_readers_of_a_run_directory_look_for(collected) -> None:
    config = collected.read_config()
    released = asdict(FIPOConfig.release_7b())
    expected = {field: list(value) if isinstance(value, tuple) else value for field, value in released.items()}
    assert config["resolved"]["objective"] == expected
    assert config["objective"] == {"preset": "release_7b", **expected}
    assert config["run"] == {"name": "run"}
    assert config["rollout"] == {"groups": 8, "group_size": 4, "max_response_tokens": 64}
    assert config["update"]["mini_batches"] == 2
    assert config["eval"]["samples"] == 1
    assert config["data"]["prompt_format"] == "chat"
    assert config["verl"]["algorithm"]["adv_estimator"] == "grpo"


def test_overrides_of_the_job_reach_the_config() -> None:
    loss = "verl.actor_rollout_ref.actor.policy_loss"
    changes = {f"{loss}.half_life": "8", f"{loss}.max_dual_clipped_tokens": "null", "verl.data.seed": "5"}
    config = config_of(recipe_with(**changes, **{"verl.trainer.total_training_steps": "500"}), "run", [])
    assert config["run"] == {"name": "run", "steps": 500, "seed": 5}
    assert config["objective"]["half_life"] == 8 and "max_dual_clipped_tokens" not in config["objective"]
    with pytest.raises(UserError, match=r"policy_loss: half_life must be > 0 tokens, got -1"):
        config_of(recipe_with(**{f"{loss}.half_life": "-1"}), "run", [])
    with pytest.raises(UserError, match=r"policy_loss: preset must be one of release_32b.* got 'mine'"):
        config_of(recipe_with(**{f"{loss}.preset": "mine"}), "run", [])


def test_the_report_draws_it(collected, tmp_path: Path) -> None:
    write_report([collected], tmp_path / "report.html")
    assert "Influence weight f" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("", ": holds no steps"),
        ("{\n", ", line 1: not JSON: "),
        ('{"step": 1}\n', ", line 1: must be an object with step, data, got {'step': 1}"),
        ('{"step": 1, "data": 3}\n', ": data must be an object, got 3"),
    ],
)
def test_what_is_no_metrics_file_is_refused_in_one_line(content: str, rule: str, tmp_path: Path, capsys) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(content)
    assert main([str(RECIPE), str(path), "--out", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"fipo: {path}{rule}") and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_missing_file_an_empty_folder_and_an_existing_run_are_refused_in_one_line(
    collected, tmp_path: Path, capsys
) -> None:
    sizes = [word for key, value in SIZES.items() for word in (f"--{key}", value)]
    metrics, other = str(RUN / "metrics.jsonl"), str(tmp_path / "other")
    assert main([str(RECIPE), str(tmp_path / "none.jsonl"), "--out", other]) == 2
    assert main([str(RECIPE), metrics, "--out", other, "--credit", str(collected.checkpoints), *sizes]) == 2
    assert main([str(RECIPE), metrics, "--out", str(collected.path), *sizes]) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == f"fipo: {tmp_path}/none.jsonl: No such file or directory"
    assert second == f"fipo: {collected.checkpoints}: holds no step_*.jsonl"
    assert third.startswith(f"fipo: {collected.path}: a run is already there")
