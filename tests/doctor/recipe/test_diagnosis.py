"""The command on the small recipe: a random model, forty problems, a real probe."""

import json
import re

import pytest
from tests.faults.small_run import make_small_run

from fipo.cli import main
from fipo.doctor.recipe.show import clipped, count
from fipo.hub import OutOfReach
from fipo.telemetry.run_directory import RunDirectory


@pytest.fixture
def small(tmp_path):
    return make_small_run(tmp_path)


def doctor(capsys, recipe, *arguments):
    capsys.readouterr()
    code = main(["doctor", str(recipe), *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_sound_recipe_is_looked_at_sampled_and_timed(small, capsys):
    before = sorted(small.parent.rglob("*"))
    code, out, err = doctor(capsys, small)
    assert (code, err) == (0, "")
    assert "Qwen2ForCausalLM, 30," in out.replace("\n", " ") or "Qwen2ForCausalLM" in out
    assert "memory on cpu, estimated, at its peak in " in out
    assert "sampled: 8 problems x 4 responses" in out
    assert re.search(r"stopped by themselves \d+%, with an answer \d+%, right \d+%", out)
    assert re.search(r"the run: 4 steps +│ +[\d.]+ (s|min) +│", out)
    assert "based on 32 responses" in out
    assert out.splitlines()[-1].startswith("nothing stops this run")
    assert sorted(small.parent.rglob("*")) == before  # nothing is written


def test_without_samples_no_weights_are_needed(small, capsys):
    for file in (small.parent / "model").glob("*.safetensors"):
        file.unlink()
    code, out, err = doctor(capsys, small, "--no-samples")
    assert (code, err) == (0, "")
    assert "not sampled and not timed" in out
    assert "sampled: " not in out


def test_a_recipe_that_cannot_fit_stops_before_anything_is_loaded(small, capsys):
    for file in (small.parent / "model").glob("*.safetensors"):
        file.unlink()
    code, out, _ = doctor(capsys, small, "--memory-gib", "0.5", "--rollout.max_response_tokens", "200")
    assert code == 2
    assert "problem: memory does not suffice" in out
    assert "on cuda in float16" in out
    assert out.splitlines()[-1].startswith("this run cannot succeed as it stands")


def test_evaluation_problems_in_the_training_set_are_counted_once(small, capsys):
    train, held_out = small.parent / "train.jsonl", small.parent / "eval.jsonl"
    held_out.write_text("".join(train.read_text().splitlines(keepends=True)[:5]))
    _, out, _ = doctor(capsys, small)
    assert out.count("also in data.eval") == 1
    assert "warning: data.train, data.eval: 5 of 40 training problems are also in data.eval: they are left out" in out
    held_out.write_text(train.read_text())
    code, out, _ = doctor(capsys, small, "--no-samples")
    assert code == 2
    assert "problem: data.train, data.eval: 40 of 40 training problems" in out


def test_too_few_positions_are_a_problem_with_the_length_that_fits(small, capsys):
    code, out, _ = doctor(capsys, small, "--rollout.max_response_tokens", "300")
    assert code == 2
    assert "308 tokens together, and the model knows 256 positions\n  try: rollout.max_response_tokens = 248\n" in out


def test_what_the_setup_says_is_said_once(small, capsys):
    _, out, _ = doctor(capsys, small, "--objective.influence_clip", "[1.0, 1.2]")
    assert out.count("is one-sided") == 1


NO_WEIGHTS = ["--no-samples"]


@pytest.mark.parametrize("looks", [[], NO_WEIGHTS], ids=["with samples", "without"])
def test_what_is_left_out_of_the_problems_is_said_once(looks, small, capsys):
    with (small.parent / "train.jsonl").open("a") as file:
        for prompt, answer in (("0=", "0"), ("41=", "one"), ("1=", "7")):
            file.write(json.dumps({"prompt": prompt, "reward_model": {"ground_truth": answer}}) + "\n")
    code, out, _ = doctor(capsys, small, "--data.max_bad_rows", "2", *looks)
    assert code == 0
    assert out.count("note: data.train: 1 exact repeat merged\n") == out.count("exact repeat") == 1
    assert out.count("line 42: grader \"number\" needs a number as answer, got 'one'; left out\n") == 1
    assert out.count("line 43: a question must have one answer, got '7' here and '1' in ") == 1
    assert out.count("note: data.train: 2 malformed rows left out (data.max_bad_rows = 2)\n") == 1


@pytest.mark.parametrize("looks", [[], NO_WEIGHTS], ids=["with samples", "without"])
@pytest.mark.parametrize(
    ("rows", "typed", "rule"),
    [
        ("", ["--data.grader", "countdown"], '{eval}, line 1: grader "countdown" needs source "countdown", got '),
        ('{"id": 1, "problem": "?", "answer": "x"}\n', [], '{train}, line 1: grader "number" needs a number as answer'),
        (
            '{"id": 1, "problem": "?", "answer": "x"}\n',
            ["--data.max_bad_rows", "1"],
            "data.train: at least one problem must remain, got none (1 rows malformed)\n",
        ),
    ],
    ids=["another source", "a bad row", "no problem"],
)
def test_problems_that_training_refuses_are_refused_with_the_same_line(looks, rows, typed, rule, small, capsys):
    train = small.parent / "train.jsonl"
    train.write_text(rows or train.read_text())
    code, _, err = doctor(capsys, small, *typed, *looks)
    assert code == 2
    assert (
        err.startswith("fipo: " + rule.format(train=train, eval=small.parent / "eval.jsonl")) and err.count("\n") == 1
    )
    assert main(["train", str(small), *typed]) == 2
    assert capsys.readouterr().err == err


def test_a_model_that_never_answers_is_noticed(small, capsys):
    rows = [{"prompt": f"{i}=", "reward_model": {"ground_truth": "12345"}, "data_source": "digits"} for i in range(40)]
    (small.parent / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, out, _ = doctor(capsys, small)
    assert "warning: data.train: all of 32 responses are wrong" in out


REFUSED = [
    (["--rollout.group_size", "1"], "rollout.group_size: must be greater than or equal to 2, got 1"),
    (
        ["--reward.overlong_buffer", "12"],
        "reward.overlong_buffer must be < rollout.max_response_tokens = 12, got 12",
    ),
    (["--rollout.groups", "x"], "rollout.groups: must be a valid integer, got 'x'"),
]


@pytest.mark.parametrize(("typed", "rule"), REFUSED, ids=[" ".join(typed) for typed, _ in REFUSED])
def test_what_the_recipe_itself_refuses_is_one_line(typed, rule, small, capsys):
    code, out, err = doctor(capsys, small, *typed)
    assert (code, out, err) == (2, "", f"fipo: {small}: {rule}\n")


def test_other_bad_input_is_one_line(small, capsys):
    answers = {
        (small, "--memory-gib", "0"): "fipo: --memory-gib must be > 0, got 0\n",
        (small.parent,): f"fipo: {small.parent}: not a run directory (it has no config.toml)\n",
        (small, "--watch"): f"fipo: doctor --watch takes a run directory, got {small}\n",
        (small.parent / "no.toml",): f"fipo: no such recipe: {small.parent / 'no.toml'}\n",
        (small, "--samples"): "fipo: an override must look like --section.key value, got --samples\n",
    }
    for arguments, expected in answers.items():
        assert doctor(capsys, *arguments) == (2, "", expected)


def test_long_texts_keep_their_beginning_and_their_end():
    text = clipped("a" * 200 + "\n" + "z" * 200)
    assert len(text) <= 100
    assert text.startswith("aaa") and " ... " in text and text.endswith("zzz")
    assert clipped("one\n  two") == "one two"


def test_counts_are_readable():
    assert [count(n) for n in (791_168, 134_515_008, 7_615_616_512)] == ["791,168", "134.5M", "7.6B"]


def test_a_hub_model_is_looked_at_by_its_config_alone_where_the_hub_is_out_of_reach(tmp_path, capsys, monkeypatch):
    def unreachable(*_, **__):
        raise OutOfReach("openai/gsm8k: the hub cannot be reached: no network")

    monkeypatch.setattr("fipo.data.hub.commit_of", unreachable)
    pytest.importorskip("datasets")
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "qwen2", "num_key_value_heads": 2, "vocab_size": 1000, **sizes})
    )
    code, out, err = doctor(capsys, "qwen2.5_1.5b_gsm8k", "--model.path", tmp_path, "--memory-gib", "80")
    assert (code, err) == (0, "")
    assert "Qwen2ForCausalLM" in out and "nothing stops this run" in out
    assert "the problems were not looked at: openai/gsm8k: the hub cannot be reached" in " ".join(out.split())


def test_a_run_is_looked_at_as_the_model_that_it_left(small, capsys, tmp_path):
    run = RunDirectory(tmp_path / "runs" / "earlier")
    run.create({"run": {"name": "earlier"}})
    code, _, err = doctor(capsys, small, "--no-samples", "--model.path", run.path)
    assert code == 2 and "no checkpoint has been written yet" in err
    (run.checkpoints / "step_000001").symlink_to(small.parent / "model")
    assert doctor(capsys, small, "--no-samples", "--model.path", run.path)[0] == 0
