import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fipo.cli import main
from fipo.models.make_tiny import make_model
from fipo.models.tokenizer import make_tokenizer
from fipo.telemetry.exit_codes import exit_code_of
from fipo.telemetry.run_directory import RunDirectory
from fipo.training import load_recipe


@pytest.fixture
def quickstart(repository):
    return str(repository / "recipe" / "quickstart.toml")


@pytest.fixture
def refusal(capsys):
    """Runs the command, which must print one line, do nothing else and return 2."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert code == 2
        assert out == ""
        assert err.startswith("fipo: ") and err.endswith("\n") and err.count("\n") == 1
        return err.removeprefix("fipo: ").removesuffix("\n")

    return run


# what is typed after the recipe, and what is answered after its name
BAD_VALUES = [
    (["--run.step", "3"], "unknown key run.step (did you mean steps?)"),
    (["--run.step=3"], "unknown key run.step (did you mean steps?)"),
    (["--rollouts.groups", "3"], "unknown key rollouts (did you mean rollout?)"),
    (["--data.train.cont", "3"], "unknown key data.train.cont (did you mean count?)"),
    (["--run.steps", "many"], "run.steps: must be a valid integer, got 'many'"),
    (["--run.seed", "-1"], "run.seed: must be greater than or equal to 0, got -1"),
    (["--run.seed=-1"], "run.seed: must be greater than or equal to 0, got -1"),
    (["--run.steps="], "run.steps: must be a valid integer, got ''"),
    (
        ["--data.train.source", "hubs"],
        "data.train.source must be one of 'signed_sums', 'countdown', 'relay', 'file', 'hub', 'champ', "
        "'reasoning_gym', "
        "got 'hubs'",
    ),
    (["--update.mini_batches", "17"], "update.mini_batches must be <= rollout.groups = 16, got 17"),
    (
        ["--rollout.groups", "4", "--update.mini_batches=5"],
        "update.mini_batches must be <= rollout.groups = 4, got 5",
    ),
    (
        ["--objective.influence_clip", "[-0.5, 1.25]"],
        "objective: influence_clip low must be >= 0, got -0.5",
    ),
    (["--objective.influence_clip=[-0.5, 1.25]"], "objective: influence_clip low must be >= 0, got -0.5"),
    (["--run.name", "two words"], None),
    (["--objective.preset", "ppo"], None),
    (["--run.steps", "3", "--run.steps", "0"], "run.steps: must be greater than 0, got 0"),  # the last one counts
    (["--resume", "--run.steps", "0"], "run.steps: must be greater than 0, got 0"),
    (["--run.steps", "0", "--resume"], "run.steps: must be greater than 0, got 0"),
]


@pytest.mark.parametrize(("typed", "message"), BAD_VALUES, ids=[" ".join(typed) for typed, _ in BAD_VALUES])
def test_a_bad_value_is_refused_before_any_work(typed, message, refusal, quickstart, tmp_path):
    answer = refusal("train", quickstart, "--run.folder", tmp_path / "runs", *typed)
    assert answer.startswith(f"{quickstart}: ")
    assert message is None or answer == f"{quickstart}: {message}"
    assert not (tmp_path / "runs").exists()


BAD_WORDS = [
    (["--steps", "3"], "an override must look like --section.key value, got --steps"),
    (["run.steps=3"], "an override must look like --section.key value, got run.steps=3"),
    (["-run.steps", "3"], "an override must look like --section.key value, got -run.steps"),
    (["--run.steps", "3", "4"], "an override must look like --section.key value, got 4"),
    (["--run.steps"], "--run.steps must be followed by a value, got nothing"),
    (["--run.name", ""], "--run.name must be followed by a value, got nothing"),
    (["--res"], "an override must look like --section.key value, got --res"),  # no guessing at abbreviations
]


@pytest.mark.parametrize(("typed", "message"), BAD_WORDS, ids=[" ".join(typed) for typed, _ in BAD_WORDS])
def test_a_word_that_is_no_override_is_refused(typed, message, refusal, quickstart):
    assert refusal("train", quickstart, *typed) == message


def test_a_recipe_that_is_not_there_is_named(refusal, tmp_path):
    path = tmp_path / "no.toml"
    assert refusal("train", path) == f"no such recipe: {path}"


def test_a_recipe_that_is_not_toml_is_named_with_the_line(refusal, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("[run]\nsteps = many\n")
    assert refusal("train", path).startswith(f"{path}: not TOML: ")


def test_a_run_that_is_already_there_is_not_touched(refusal, quickstart, tmp_path):
    run = RunDirectory(tmp_path / "quickstart")
    run.create({"run": {"name": "quickstart"}})
    before = run.config.read_bytes()
    assert refusal("train", quickstart, "--run.folder", tmp_path) == (
        f"{run.path}: a run is already there; add --resume to continue it, or choose another --run.name"
    )
    assert run.config.read_bytes() == before


def test_resuming_with_another_recipe_names_the_difference(refusal, quickstart, tmp_path):
    run = RunDirectory(tmp_path / "quickstart")
    recipe = load_recipe(Path(quickstart), {"run.folder": str(tmp_path)})
    run.create({**recipe.model_dump(exclude_none=True), "resolved": {}, "versions": {}})
    answer = refusal("train", quickstart, "--run.folder", tmp_path, "--resume", "--rollout.groups", "17")
    assert answer == (
        f"{run.path}: --resume needs the recipe that the run began with; rollout.groups was 16, got 17 "
        "(or choose another --run.name)"
    )


@pytest.mark.parametrize("arguments", [["trian", "x.toml"], ["train"], ["report"], ["sample", "embedded"]])
def test_what_is_no_command_is_refused_in_one_line_that_names_the_help(arguments, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("fipo: ")
    assert error.endswith(" --help)\n")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["eval", "--help"], ["report", "-h"], ["sample", "-h"]]
)
def test_help_is_printed_and_returns_0(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 0
    assert "usage: fipo" in capsys.readouterr().out


def test_without_arguments_the_help_is_printed_as_a_mistake(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("usage: fipo") and "train a model by a recipe" in err


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert re.fullmatch(r"fipo [0-9.]+(\.dev[0-9]+)?\n", capsys.readouterr().out)


def test_an_unknown_argument_of_a_command_is_named(refusal, tmp_path):
    assert refusal("report", tmp_path, "--ouput", "x") == "unknown argument --ouput (see fipo report --help)"
    assert refusal("sample", tmp_path, "1+2=", "--temp.x", "1") == "unknown argument --temp.x (see fipo sample --help)"


def test_the_command_ends_its_process_with_its_code(tmp_path):
    command = [sys.executable, "-m", "fipo.cli", "report", str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr == f"fipo: {tmp_path}: not a run directory (it has no config.toml)\n"


def begun(path):
    run = RunDirectory(path)
    run.create({"eval": {"samples": 2}, "data": {"prompt_format": "raw"}})
    run.append_metrics({"step": 1, "reward/mean": 0.5})
    return run


def test_a_reader_that_goes_away_ends_the_command_without_a_word(repository):
    recipe = repository / "recipe" / "fipo" / "fipo_qwen2.5_32b.toml"
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-u", "-m", "fipo.cli", "launch", str(recipe), "--dry-run"]
    finished = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writing)
    assert (finished.returncode, finished.stderr) == (1, "")


def test_a_report_is_written_into_its_run_and_its_path_is_printed(tmp_path, capsys):
    run = begun(tmp_path / "first")
    assert main(["report", str(run.path)]) == 0
    assert capsys.readouterr().out == f"report: {run.report}\n"
    assert run.report.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_report_of_two_runs_goes_where_it_is_asked(tmp_path, capsys):
    one, two = begun(tmp_path / "one"), begun(tmp_path / "two")
    out = tmp_path / "both.html"
    assert main(["report", str(one.path), str(two.path), "--out", str(out)]) == 0
    assert "<h1>one, two</h1>" in out.read_text(encoding="utf-8")
    assert not one.report.exists()


def test_a_report_replaces_no_fifo_and_goes_through_a_link(tmp_path, refusal, capsys):
    run = begun(tmp_path / "one")
    os.mkfifo(tmp_path / "fifo")
    out, link = tmp_path / "fifo", tmp_path / "link.html"
    assert refusal("report", run.path, "--out", out) == f"{out}: must be a file in an existing folder, got a FIFO"
    link.symlink_to("target.html")
    assert main(["report", str(run.path), "--out", str(link)]) == 0
    assert link.is_symlink() and (tmp_path / "target.html").stat().st_size > 1000


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two untrained models that answer differently."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = make_tokenizer()
    for seed in (1, 2):
        torch.manual_seed(seed)
        make_model(tokenizer).save_pretrained(folder / str(seed))
        tokenizer.save_pretrained(folder / str(seed))
    return folder


def sampled(capsys, model, *arguments):
    capsys.readouterr()
    assert main(["sample", str(model), "1+2+3+4=", *arguments, "--max-tokens", "6"]) == 0
    prompt, *answers = capsys.readouterr().out.splitlines()
    assert prompt == "1+2+3+4="
    assert all(answer.startswith("    ") for answer in answers)
    return [answer.removeprefix("    ") for answer in answers]


def test_a_model_answers_each_prompt_as_often_as_asked(models, capsys):
    assert main(["sample", str(models / "1"), "1+2=", "3-4=", "--samples", "3", "--max-tokens", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert (lines[0], lines[4]) == ("1+2=", "3-4=")


def test_answers_are_a_function_of_the_seed(models, capsys):
    first = sampled(capsys, models / "1", "--seed", "5")
    assert first == sampled(capsys, models / "1", "--seed", "5")
    assert first != sampled(capsys, models / "1", "--seed", "6")
    assert len(set(first)) > 1


def test_at_temperature_0_every_answer_is_the_same(models, capsys):
    answers = sampled(capsys, models / "1", "--temperature", "0", "--samples", "3")
    assert len(answers) == 3 and len(set(answers)) == 1


def test_every_prompt_gets_its_own_answers(models, capsys):
    options = ["--temperature", "0", "--samples", "2", "--max-tokens", "6"]
    prompts = ["1+2=", "###"]
    alone = []
    for prompt in prompts:
        assert main(["sample", str(models / "1"), prompt, *options]) == 0
        alone.append(capsys.readouterr().out)
    assert len({answers.split("\n", 1)[1] for answers in alone}) == len(prompts)
    assert main(["sample", str(models / "1"), *prompts, *options]) == 0
    assert capsys.readouterr().out == "".join(alone)


def test_a_run_answers_with_its_newest_checkpoint(models, capsys, tmp_path):
    run = begun(tmp_path / "first")
    for step in (1, 2):
        (run.checkpoints / f"step_{step:06d}").symlink_to(models / str(step))
    newest = sampled(capsys, models / "2")
    assert sampled(capsys, run.path) == newest
    assert sampled(capsys, models / "1") != newest


def test_a_run_without_a_checkpoint_is_refused(refusal, tmp_path):
    run = begun(tmp_path / "first")
    assert refusal("sample", run.path, "1+2=") == f"{run.path}: no checkpoint has been written yet"


@pytest.mark.parametrize(
    ("option", "value", "rule"),
    [
        ("--samples", "0", "--samples must be >= 1, got 0"),
        ("--max-tokens", "-1", "--max-tokens must be >= 1, got -1"),
        ("--temperature", "-0.5", "--temperature must be >= 0, got -0.5"),
        ("--temperature", "nan", "--temperature must be >= 0, got nan"),
        ("--temperature", "inf", "--temperature must be <= 1000, got inf"),
        ("--temperature", "1e-9", "--temperature must be 0 or at least 0.001, got 1e-09"),
        ("--samples", "9" * 20, f"--samples must be <= 1000000, got {'9' * 20}"),
        ("--max-tokens", "1000001", "--max-tokens must be <= 1000000, got 1000001"),
        ("--seed", "-1", "--seed must be >= 0, got -1"),
        ("--seed", "9" * 30, f"--seed must be <= {2**63 - 1}, got {'9' * 30}"),
    ],
)
def test_a_sampling_option_out_of_range_is_refused(option, value, rule, refusal):
    assert refusal("sample", "embedded", "1+2=", option, value) == rule


def test_a_prompt_that_is_no_text_is_refused(refusal):
    assert refusal("sample", "embedded", "1+2=", "\udc80") == r"a prompt must be text in UTF-8, got '\udc80'"


def test_a_model_that_is_not_there_is_refused(refusal):
    rule = 'model.path must be "embedded", an existing folder, or a hub name OWNER/MODEL'
    assert refusal("sample", "/no/such/model", "1+2=") == f"{rule}, got '/no/such/model'"


def test_ctrl_c_outside_a_training_step_is_one_line_and_130(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("fipo.cli._sample", interrupted)
    assert main(["sample", "embedded", "1+2="]) == 130
    assert capsys.readouterr().err == "fipo: interrupted\n"


def evaluated(quick, folder, name, *arguments):
    typed = ["--output.folder", str(folder), "--output.name", name, "--data.eval.count", "4", "--sampling.samples=2"]
    assert main(["eval", quick, *typed, *arguments]) == 0
    return folder / name


@pytest.mark.slow
def test_two_models_are_scored_and_compared(models, repository, tmp_path, capsys):
    quick = str(repository / "recipe" / "eval" / "quickstart.toml")
    base = evaluated(quick, tmp_path, "base")
    out = capsys.readouterr().out
    assert "4 problems x 2" in out and "avg@2" in out and "truncated" in out
    assert f"results: {base / 'results.jsonl'}\nsummary: {base / 'summary.json'}\n" in out
    other = evaluated(quick, tmp_path, "other", "--model.path", str(models / "1"), "--sampling.max_response_tokens=8")
    capsys.readouterr()
    target = tmp_path / "difference.json"
    assert main(["eval", "--compare", str(base), str(other), "--json", str(target)]) == 0
    out = capsys.readouterr().out
    assert "4 shared problems" in out and "pass@2" in out and "B - A" in out
    assert "note: the two differ in sampling.max_response_tokens as well\n" in out
    written = json.loads(target.read_text())
    assert written["problems"] == 4
    assert written["differences"]["avg@2"]["difference"] <= 0


EVAL_WORDS = [
    ([], "eval needs RECIPE.toml or --compare A B, got neither (see fipo eval --help)"),
    (["x.toml", "--json", "f"], "eval needs RECIPE.toml or --compare A B, got --json without --compare (see fipo eval"),
    (["--compare", "a"], "argument --compare: expected 2 arguments (see fipo eval --help)"),
    (["x.toml", "--compare", "a", "b"], "eval --compare takes two folders alone, got x.toml (see fipo eval --help)"),
    (["--compare", "a", "b", "--x.y", "1"], "eval --compare takes two folders alone, got --x.y (see fipo eval --help)"),
    (["--compare", "/no/a", "/no/b"], "/no/a: holds no evaluation (it has no results.jsonl)"),
    (["x.toml", "--samples", "3"], "an override must look like --section.key value, got --samples"),
    (["/no/x.toml"], "no such recipe: /no/x.toml"),
]


@pytest.mark.parametrize(("typed", "message"), EVAL_WORDS, ids=[" ".join(typed) for typed, _ in EVAL_WORDS])
def test_an_evaluation_that_cannot_be_is_refused(typed, message, refusal):
    assert refusal("eval", *typed).startswith(message)


def test_what_torch_reads_when_it_starts_is_set_before_unless_the_user_did(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF", raising=False)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    assert os.environ["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "fipo: out of memory\n"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB."), "fipo: CUDA out of memory\n"),
        (RuntimeError("std::bad_alloc"), "fipo: CPU out of memory\n"),
    ],
)
def test_a_command_without_memory_says_so_in_one_line(capsys, error, said):
    def command() -> int:
        raise error

    assert exit_code_of(command) == 1
    assert capsys.readouterr().err == said


def test_an_error_that_is_none_of_those_is_not_hidden():
    def command() -> int:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        exit_code_of(command)


def test_ctrl_c_under_make_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setenv("FIPO_AGAIN", "make train")
    monkeypatch.setattr("fipo.cli._sample", interrupted)
    assert main(["sample", "embedded", "1+2="]) == 130
    assert capsys.readouterr().err == "fipo: interrupted; `make train` goes on from there\n"
