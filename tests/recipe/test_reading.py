"""A recipe that cannot be read is one line, whatever it is; nothing waits, nothing recurses without end."""

import os
from pathlib import Path

import pytest

from fipo.errors import UserError
from fipo.recipe.toml import DEEPEST, LARGEST_FILE, LONGEST_CHAIN, read_recipe, split_overrides

DEEP = "[" * 5000 + "]" * 5000
UNREADABLE = {  # content, and what is said
    "deep lists": (f"x = {DEEP}", "nested too deeply"),
    "deep tables": (f"[{'.'.join(['a'] * 3000)}]", f"must be nested at most {DEEPEST} deep"),
    "deep inline tables": ("x = " + "{a = " * 3000 + "1" + "}" * 3000, "nested"),
    "a number of 5,000 digits": (f"x = {'9' * 5000}", "not TOML: Exceeds the limit"),
    "a number of 65 bits": (f"x = [1, {2**64}]", "x.1: must be within TOML's 64 bits, got a number of 65 bits"),
    "NaN": ("[a]\nx = nan", "a.x: must be a number, got nan"),
    "an escaped NUL": ('x = "a\\u0000b"', "x: must be without the character NUL"),
    "a NUL": ("x = 1\0", "not TOML"),
    "UTF-16": ("x = 1".encode("utf-16"), "cannot read the recipe"),
    "too large": ("#" * (LARGEST_FILE + 1), "must have at most 10,000,000 bytes"),
    "extends a number": ("extends = 1", "extends must be the path of a recipe, got 1"),
    "extends itself": ('extends = "recipe.toml"', "extends must not lead back to itself"),
    "extends a folder": ('extends = ""', "cannot read the recipe: must be a regular file, got a folder"),
    "extends a device": (
        'extends = "/dev/zero"',
        "cannot read the recipe: must be a regular file, got a character device",
    ),
    "extends a loop of links": ('extends = "loop"', "cannot read the recipe: Too many levels of symbolic links"),
    "extends a long name": (f'extends = "{"a" * 5000}"', "cannot read the recipe: File name too long"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_is_no_recipe_is_refused_with_the_file_and_the_reason(case: str, tmp_path: Path) -> None:
    content, said = UNREADABLE[case]
    (tmp_path / "loop").symlink_to("loop")
    path = tmp_path / "recipe.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as refused:
        read_recipe(path, {})
    assert said in str(refused.value) and str(refused.value).startswith(("/dev/zero", str(tmp_path)))


def test_a_fifo_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "recipe.toml")
    with pytest.raises(UserError, match=r"recipe\.toml: cannot read the recipe: must be a regular file, got a FIFO"):
        read_recipe(tmp_path / "recipe.toml", {})


def test_a_chain_of_recipes_has_an_end(tmp_path: Path) -> None:
    for i in range(LONGEST_CHAIN + 1):
        (tmp_path / f"{i}.toml").write_text(f'extends = "{i + 1}.toml"\nx{i} = {i}')
    (tmp_path / f"{LONGEST_CHAIN}.toml").write_text("x = 1")
    with pytest.raises(UserError, match="at most 16 recipes can extend one another"):
        read_recipe(tmp_path / "0.toml", {})
    assert len(read_recipe(tmp_path / "1.toml", {})) == LONGEST_CHAIN


@pytest.mark.parametrize("word", ["--a..b", "--.a", "--a.", "--.", "--a.b..c=1"])
def test_a_key_with_an_empty_part_is_no_override(word: str) -> None:
    with pytest.raises(UserError, match=r"an override must look like --section\.key value, got"):
        split_overrides([word, "1"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1\nfoo = 2", "1\nfoo = 2"),  # more than a value: the text that it is
        ("1\n[x]\ny = 3", "1\n[x]\ny = 3"),
        (DEEP, DEEP),
        ("9" * 5000, "9" * 5000),
        ("[1,\n2]", [1, 2]),
        ("1e-5", 1e-5),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_override_is_one_value_or_a_text(text: str, value: object, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("")
    assert read_recipe(tmp_path / "recipe.toml", {"a.b": text}) == {"a": {"b": value}}


@pytest.mark.parametrize("key", [".".join(["a"] * 50_000), ".".join(["a"] * (DEEPEST + 1))], ids=len)
def test_the_key_of_an_override_is_nested_no_deeper_than_a_recipe(key: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("")
    with pytest.raises(UserError, match=f"must be nested at most {DEEPEST} deep"):
        read_recipe(tmp_path / "recipe.toml", {key: "1"})


@pytest.mark.parametrize(
    ("value", "said"), [(str(2**64), "64 bits"), ("nan", "must be a number"), ('"\\u0000"', "NUL")]
)
def test_an_override_holds_what_a_recipe_can_hold(value: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("")
    with pytest.raises(UserError, match=f"recipe\\.toml: a\\.b: .*{said}"):
        read_recipe(tmp_path / "recipe.toml", {"a.b": value})
