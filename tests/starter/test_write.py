import json
import tomllib

import pytest

from fipo.cli import main
from fipo.errors import UserError
from fipo.starter.write import NAMES, write_starter
from fipo.telemetry.run_directory import RunDirectory


@pytest.mark.slow
def test_init_writes_a_run_that_works_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    assert "fipo train my_recipe.toml" in capsys.readouterr().out
    shortened = ["--run.steps", "1", "--rollout.groups", "4", "--rollout.generation_batch", "4", "--eval.samples", "2"]
    shortened += ["--update.mini_batches", "2"]
    assert main(["train", "my_recipe.toml", "--quiet", *shortened]) == 0
    before, after = RunDirectory(tmp_path / "runs" / "my_run").read_metrics()
    assert before["eval/avg_at_k"] > 0
    assert after["grade/failed"] == 0 and after["reward/mean"] > -1


def test_the_doctor_finds_nothing_against_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_starter(tmp_path)
    assert main(["doctor", "my_recipe.toml", "--no-samples"]) == 0
    assert "nothing stops this run" in capsys.readouterr().out


def test_what_is_there_is_not_touched_and_nothing_else_is_written(tmp_path):
    (tmp_path / "my_reward.py").write_text("mine")
    with pytest.raises(UserError, match=r"my_reward\.py: is there already"):
        write_starter(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["my_reward.py"]
    assert (tmp_path / "my_reward.py").read_text() == "mine"


def test_a_folder_that_is_not_there_is_made_and_named_in_what_to_type(tmp_path, capsys):
    assert main(["init", str(tmp_path / "new" / "one")]) == 0
    assert {path.name for path in (tmp_path / "new" / "one").iterdir()} == set(NAMES)
    assert f"cd {tmp_path / 'new' / 'one'}" in capsys.readouterr().out


def test_training_and_evaluation_share_no_question_and_the_files_travel_with_the_package(tmp_path, repository):
    write_starter(tmp_path)
    rows = {name: (tmp_path / f"{name}.jsonl").read_text().splitlines() for name in ("train", "eval")}
    questions = {name: {json.loads(row)["prompt"] for row in lines} for name, lines in rows.items()}
    assert len(questions["train"]) == 400 and len(questions["eval"]) == 64
    assert not questions["train"] & questions["eval"]
    assert (
        "starter/files/*"
        in tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["fipo"]
    )
