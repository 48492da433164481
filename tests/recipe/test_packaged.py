import shutil
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from fipo.errors import UserError
from fipo.recipe.packaged import COMMANDS, FOLDER, find_recipe, kind_of, listing, packaged


def test_every_recipe_of_the_repository_is_packaged(repository):
    patterns = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["fipo"]
    for path in (repository / "recipe").rglob("*.*"):
        inside = "recipes" / path.relative_to(repository / "recipe")
        assert any(
            fnmatch(str(inside), pattern) and len(inside.parts) == pattern.count("/") + 1 for pattern in patterns
        )
        assert (FOLDER.parent / inside).read_bytes() == path.read_bytes()


def test_the_list_says_what_each_recipe_is_and_which_machine_it_needs():
    every = list(packaged())
    assert {recipe.kind for recipe in every} == set(COMMANDS)
    assert len({(recipe.kind, recipe.name) for recipe in every}) == len(every) > 25
    for recipe in every:
        assert recipe.summary and recipe.machine != "not said", recipe.name
        assert recipe.name in listing() and recipe.machine in listing()


def test_a_twin_needs_the_machine_of_what_it_extends():
    machines = {recipe.name: recipe.machine for recipe in packaged() if recipe.kind == "train"}
    assert machines["quickstart_dapo"] == machines["quickstart"] == "2 CPU cores, a minute"


def test_what_recipes_share_is_not_listed():
    assert not any("base" in recipe.name for recipe in packaged() if recipe.kind == "train")


@pytest.mark.parametrize("recipe", packaged(), ids=lambda recipe: f"{recipe.kind}-{recipe.name}")
def test_every_packaged_recipe_is_found_by_its_name(recipe):
    if recipe.kind != "credit":
        assert find_recipe(recipe.path.relative_to(recipe.path.parent).with_suffix(""), [recipe.kind]) == recipe.path
    assert kind_of(recipe.path) == recipe.kind


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(FOLDER / "quickstart.toml", "mine.toml")
    (tmp_path / "runs" / "old").mkdir(parents=True)
    (tmp_path / "runs" / "old" / "config.toml").write_text("[run]\n")
    return tmp_path


def test_a_file_wins_over_a_packaged_recipe_of_its_name(here):
    path = (here / "mine.toml").rename(here / "quickstart")
    assert find_recipe(path.relative_to(here), ["train"]).read_text() == path.read_text()
    assert find_recipe(path, ["train"]) == path


@pytest.mark.parametrize(
    ("given", "kinds", "message"),
    [
        ("quickstrat", ["train"], "no such recipe: quickstrat (did you mean quickstart? see fipo recipes)"),
        ("recipe/quickstart.toml", ["train"], "no such recipe: recipe/quickstart.toml (did you mean quickstart? "),
        ("aime_paper", ["train", "launch"], "aime_paper: is a recipe of fipo eval: fipo eval aime_paper"),
        ("mien.toml", ["train"], "no such recipe: mien.toml (did you mean mine.toml?)"),
        ("unheard", ["eval"], "no such recipe: unheard (fipo recipes lists those that come with fipo)"),
        ("some/where/unheard.toml", ["train"], "no such recipe: some/where/unheard.toml"),
        ("runs", ["train"], "runs: must be a recipe, got a folder"),
        ("runs/old", ["train"], "runs/old: must be a recipe, got a folder (the recipe of a run is its config.toml)"),
        (
            "mine.toml",
            ["eval"],
            "mine.toml: must be a recipe of fipo eval, got one of fipo train: fipo train mine.toml",
        ),
    ],
)
def test_what_is_no_recipe_of_the_command_is_refused_with_what_was_meant(given, kinds, message, here):
    with pytest.raises(UserError) as refused:
        find_recipe(Path(given), kinds)
    assert str(refused.value).startswith(message)


def test_a_recipe_of_another_kind_names_the_command_that_takes_it():
    for recipe in packaged():
        other = "launch" if recipe.kind == "train" else "train"
        with pytest.raises(UserError, match=f"{COMMANDS[recipe.kind]} {recipe.path}$"):
            find_recipe(recipe.path, [other])


def test_a_recipe_whose_tables_say_nothing_is_left_to_its_command(tmp_path):
    path = tmp_path / "odd.toml"
    path.write_text("[run]\nname = 'x'\n")
    assert find_recipe(path, ["train"]) == path
