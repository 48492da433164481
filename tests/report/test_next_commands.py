import sys

import pytest
from tests.report.rollouts import group

from fipo.recipe.packaged import FOLDER
from fipo.report.next_commands import next_commands
from fipo.telemetry.run_directory import RunDirectory


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fipo"])

    def make(prompt="2+2=", **data):
        run = RunDirectory(tmp_path / "a run")
        run.create({"run": {"name": "a run"}, "data": data})
        run.write_rollouts(1, group(1, prompt=prompt))
        return run

    return make


def test_there_are_three_that_can_be_pasted(make_run, tmp_path):
    run = make_run()
    assert [command for command, _ in next_commands(run, tmp_path / "mine.toml", {})] == [
        f"fipo sample '{run.path}' 2+2=",
        f"fipo doctor '{run.path}'",
        f"fipo report '{run.path}' ANOTHER_RUN --out both.html",
    ]


def test_a_recipe_with_a_dapo_twin_names_it(make_run, tmp_path):
    (tmp_path / "mine_dapo.toml").touch()
    command, purpose = next_commands(make_run(), tmp_path / "mine.toml", {})[2]
    assert command == f"fipo train {tmp_path / 'mine_dapo.toml'}" and "DAPO" in purpose


def test_the_twin_of_a_packaged_recipe_goes_by_its_name(make_run):
    assert next_commands(make_run(), FOLDER / "quickstart.toml", {})[2][0] == "fipo train quickstart_dapo"


def test_the_twin_is_trained_as_the_run_was_but_for_its_objective(make_run, tmp_path):
    (tmp_path / "mine_dapo.toml").touch()
    given = {"run.steps": "4", "run.name": "a run", "objective.half_life": "8"}
    command, _ = next_commands(make_run(), tmp_path / "mine.toml", given)[2]
    assert command == f"fipo train {tmp_path / 'mine_dapo.toml'} --run.steps 4 --run.name 'a run_dapo'"


@pytest.mark.parametrize("last", ["a run", "a run_dapo"])
def test_the_twin_of_a_run_that_is_there_is_compared_with_it(last, make_run, tmp_path):
    run = make_run()
    twin = RunDirectory(run.path.with_name("a run_dapo"))
    twin.create({"run": {"name": "a run_dapo"}})
    command, _ = next_commands(RunDirectory(run.path.with_name(last)), tmp_path / "mine_dapo.toml", {})[2]
    assert command == f"fipo report '{run.path}' '{twin.path}' --out both.html"


@pytest.mark.parametrize(
    ("prompt", "data"),
    [("x" * 61, {}), ("a\nb", {}), ("", {}), ("2+2=", {"prompt_format": "chat"}), ("2+2=", {"examples": [{}]})],
)
def test_a_prompt_that_nobody_would_type_is_left_to_the_user(prompt, data, make_run, tmp_path):
    assert next_commands(make_run(prompt, **data), tmp_path / "mine.toml", {})[0][0].endswith("'YOUR QUESTION'")
