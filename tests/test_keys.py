import re

import pytest

from fipo.cli import main
from fipo.errors import UserError
from fipo.keys import RECIPES, keys_text, markdown
from fipo.recipe.keys import sections_of


def test_the_page_of_keys_is_what_the_tables_say(repository):
    page = (repository / "docs" / "keys.md").read_text()
    assert page == markdown() + "\n", "fipo keys --markdown > docs/keys.md"


@pytest.mark.parametrize("kind", RECIPES)
def test_every_key_says_what_it_means(kind):
    silent = [
        f"{section.name}.{key.name}"
        for section in sections_of(RECIPES[kind])
        for key in section.keys
        if not key.meaning and key.name != "source"
    ]
    assert silent == []


def test_a_table_is_printed_with_its_keys_and_those_inside_it(capsys):
    assert main(["keys", "model"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("[model]\n  path: text; required\n") and "[model.lora]" in out and "rank" in out


def test_a_key_alone_is_printed_with_its_default():
    assert keys_text("update.optimizer", None).splitlines()[:2] == [
        "[update]",
        '  optimizer: "adamw" or "adamw_8bit" or "paged_adamw_8bit"; default "adamw"',
    ]


def test_everything_is_printed_without_a_name_and_no_kind_of_problems_twice():
    text = keys_text(None, None)
    assert "[rollout]" in text and "[telemetry]" in text
    assert len(re.findall('with source = "file"', text)) == 1
    assert '[data.train] and [data.eval] with source = "file"' in text


def test_the_recipes_of_other_commands_have_their_own():
    assert "samples" in keys_text("sampling", None)  # the first command whose recipes have it
    assert "learning_rate_times_mean_f_of" in keys_text("arms.NAME", None)
    assert "lora" in keys_text("model", "train") and "lora" not in keys_text("model", "eval")


def test_a_name_that_is_none_gets_the_nearest_one():
    with pytest.raises(UserError, match=r"'rolout' \(did you mean rollout\?\)"):
        keys_text("rolout", None)
    with pytest.raises(UserError, match=r"did you mean update.learning_rate\?"):
        keys_text("update.learningrate", None)
    with pytest.raises(UserError, match="fipo keys prints all"):
        keys_text("zzz", None)


def test_the_page_takes_nothing_beside_it(capsys):
    assert main(["keys", "model", "--markdown"]) == 2
    assert "takes nothing beside it" in capsys.readouterr().err
