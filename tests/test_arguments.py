import re

import pytest

from fipo.arguments import NAMES, fipo_parser, refuse_unknown_command
from fipo.cli import main
from fipo.errors import UserError
from fipo.recipe.packaged import find_recipe


def help_of(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_a_command_describes_its_arguments_has_two_examples_and_says_where_the_keys_are(name, capsys):
    text = help_of(name, capsys)
    assert text.startswith(f"usage: fipo {name}")
    assert "fipo keys" in text.partition("keys:\n")[2]
    (parser,) = (action for action in fipo_parser()._actions if action.dest == "command")
    for action in parser.choices[name]._actions:
        assert action.help, action.dest


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of_the_help_are_understood(name, capsys):
    examples = re.findall(
        r"^  fipo (.*)$", help_of(name, capsys).partition("examples:\n")[2].partition("\n\n")[0], re.M
    )
    assert len(examples) == 2
    for example in examples:
        words = [word.strip('"') for word in re.split(r" && fipo | \| ", example)[0].split()]
        assert words[0] == name
        options, rest = fipo_parser().parse_known_args(words)
        assert options.command == name
        assert all("." in word for word in rest if word.startswith("--"))  # overrides of the recipe
        recipe = getattr(options, "recipe", None) or getattr(options, "study", None)
        if recipe and recipe.suffix != ".toml" and len(recipe.parts) == 1:
            assert find_recipe(recipe, [name]).is_file()


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["trian", "x.toml"], "did you mean train?"),
        (["quickstart"], "did you mean fipo train quickstart?"),
        (["mine.toml"], "did you mean fipo train mine.toml?"),
        (["doctr", "x"], "did you mean doctor?"),
        (["xyzzy"], "(see fipo --help)"),
    ],
)
def test_a_word_that_is_no_command_gets_the_one_that_was_meant(words, meant):
    with pytest.raises(UserError, match=re.escape(meant)):
        refuse_unknown_command(words)


def test_commands_and_options_are_let_through():
    for word in (*NAMES, "--help", "--version"):
        refuse_unknown_command([word])
