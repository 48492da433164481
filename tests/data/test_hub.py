import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from tests.data.helpers import PUBLISHED, WRITERS, dapo_row
from tests.data.small_hub import COMMIT, GATED, small_hub

from fipo.data.sources import Source
from fipo.errors import UserError
from fipo.extras import install_hint
from fipo.recipe.table import Table, validate

pytest.importorskip("datasets")

CODE = """
import json, sys
from fipo.errors import UserError
from fipo.data.bad_rows import BadRows
from fipo.data.sources import Hub, load_problems
for keys in json.loads(sys.argv[1]):
    said = []
    try:
        merged = load_problems(Hub(source="hub", **keys), "train", 0, BadRows(1, said.append))
        problems = [(placed.where, placed.problem) for placed in merged.problems]
        found = [[where, problem.id, problem.prompt, problem.answer] for where, problem in problems]
    except UserError as error:
        found, said = f"{error.exit_code} {error}", []
    print(json.dumps([found, said]))
"""

GSM8K = [row for row, _ in PUBLISHED["openai/gsm8k"]]
CONFIGS = b"""---
configs:
- config_name: main
  data_files: train.jsonl
- config_name: socratic
  data_files: other.jsonl
---
"""
SCRIPT = b"import datasets, pathlib\npathlib.Path('executed').touch()\n"
ASKED = {
    "whole": {"name": "math-ai/aime25", "split": "test"},
    "in dapo's template": {"name": "math-ai/aime25", "split": "test", "template": "dapo"},
    "pinned": {"name": "math-ai/aime25", "split": "test", "revision": COMMIT},
    "one config": {"name": "openai/gsm8k", "config": "main", "split": "train"},
    "parquet": {"name": "owner/dapo", "split": "train"},
    "own prompts": {"name": "owner/dapo", "split": "train", "template": "dapo"},
    "no such name": {"name": "owner/absent", "split": "test"},
    "gated": {"name": GATED, "split": "test"},
    "no such split": {"name": "math-ai/aime25", "split": "tset"},
    "no such revision": {"name": "math-ai/aime25", "split": "test", "revision": "v7"},
    "no config": {"name": "openai/gsm8k", "split": "train"},
    "no such config": {"name": "openai/gsm8k", "config": "mian", "split": "train"},
    "other columns": {"name": "owner/other", "split": "train"},
    "script": {"name": "owner/script", "split": "train"},
    "in the way": {"name": "owner/folder", "split": "train"},
}


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def load(asked, folder, **environment):
    """What each of `asked` gives in a new process, as [problems or the error's exit code and line, what was said]."""
    unset = ("HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_TOKEN")
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(asked)],
        env=inherited | {"HF_HOME": str(folder / "cache")} | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """What a hub with small files of the published columns gives, then what is left of it when it is gone."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / "owner" / "folder").mkdir(parents=True)
    WRITERS["parquet"](folder / "dapo.parquet", [dapo_row(1), dapo_row(2, "1+3="), dapo_row(1)])
    aime = [row for row, _ in PUBLISHED["math-ai/aime25"]]
    datasets = {
        "math-ai/aime25": {"test.jsonl": jsonl([*aime, {"problem": "2+2=", "answer": "", "id": "1"}])},
        "openai/gsm8k": {"README.md": CONFIGS, "train.jsonl": jsonl(GSM8K), "other.jsonl": jsonl(GSM8K[:1])},
        "owner/dapo": {"train.parquet": (folder / "dapo.parquet").read_bytes()},
        "owner/other": {"train.jsonl": jsonl([{"instruction": "2+2=", "output": "4"}])},
        "owner/script": {"script.py": SCRIPT},
        GATED: {},
    }
    with small_hub(datasets) as (address, requests):
        given = dict(zip(ASKED, load(list(ASKED.values()), folder, HF_ENDPOINT=address), strict=True))
    (again,) = load([ASKED["pinned"]], folder, HF_ENDPOINT=address, HF_HUB_OFFLINE="1")
    return SimpleNamespace(given=given, again=again, requests=requests, folder=folder)


def test_a_dataset_gives_its_problems_with_their_places_and_names_its_bad_rows(hub):
    problems, said = hub.given["whole"]
    assert problems == [["math-ai/aime25, test row 1", "math-ai/aime25/0", "What is $35*2$?", "70"]]
    assert said == ["math-ai/aime25, test row 2: answer must not be empty; left out"]


def test_the_template_goes_around_the_questions_of_a_dataset(hub):
    ((_, _, prompt, answer),), _ = hub.given["in dapo's template"]
    assert prompt.startswith("Solve the following") and "\n\nWhat is $35*2$?\n\n" in prompt and answer == "70"


def test_a_commit_pins_a_dataset(hub):
    assert hub.given["pinned"] == hub.given["whole"]
    assert f"/api/datasets/math-ai/aime25/revision/{COMMIT}" in hub.requests


def test_a_config_chooses_among_several(hub):
    problems, _ = hub.given["one config"]
    assert [(place, answer) for place, _, _, answer in problems] == [
        ("openai/gsm8k, train row 1", "1080"),
        ("openai/gsm8k, train row 2", "-3"),
    ]


def test_dapos_schema_comes_from_parquet_with_its_messages_and_repeats_merged(hub):
    problems, _ = hub.given["parquet"]
    assert [(place, name) for place, name, _, _ in problems] == [
        ("owner/dapo, train row 1", "math_dapo/id-1"),
        ("owner/dapo, train row 2", "math_dapo/id-2"),
    ]
    assert problems[1][2] == [{"role": "user", "content": "1+3="}]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("own prompts", "owner/dapo, train row 1: template must be left out for data that has prompts of its own"),
        ("no such name", "owner/absent: the hub has no dataset of this name, or a private one (`hf auth login`)"),
        ("gated", f"{GATED}: its owner must grant access first; then log in with `hf auth login`"),
        ("no such split", "math-ai/aime25: cannot be loaded: Unknown split"),
        ("no such revision", "math-ai/aime25: the dataset has no revision 'v7'"),
        ("no config", "openai/gsm8k: cannot be loaded: Config name is missing. Please pick one among"),
        ("no such config", "openai/gsm8k: cannot be loaded: BuilderConfig 'mian' not found. Available: ['main', 's"),
        ("other columns", "owner/other: must have the columns of a known layout (dapo: prompt, reward_model; "),
        ("script", "owner/script: cannot be loaded: "),
        ("in the way", 'owner/folder: a file or folder here has this name; read its files with source = "file"'),
    ],
)
def test_a_dataset_that_cannot_be_had_gives_one_line_that_names_it(asked, message, hub):
    line, _ = hub.given[asked]
    assert line.startswith(f"2 {message}") and "\n" not in line


def test_no_code_of_a_dataset_runs(hub):
    assert not list(hub.folder.rglob("executed"))


def test_what_was_downloaded_before_is_used_without_the_hub_if_the_user_says_so(hub):
    assert hub.again == hub.given["pinned"]


@pytest.mark.parametrize("address", ["https://hub.invalid", "http://127.0.0.1:9"])
def test_without_a_network_one_line_says_so_within_seconds(address, tmp_path):
    """A name that no server may have, and an address where none listens."""
    before = time.monotonic()
    ((line, _),) = load([ASKED["whole"]], tmp_path, HF_ENDPOINT=address)
    assert line.startswith("2 math-ai/aime25: the hub cannot be reached: ") and "\n" not in line
    assert time.monotonic() - before < 20  # the libraries themselves try for half a minute


def test_without_the_library_one_line_says_how_to_install_it(tmp_path):
    (tmp_path / "datasets.py").write_text("raise ImportError")  # what an import finds where it is not installed
    ((line, _),) = load([ASKED["whole"]], tmp_path, PYTHONPATH=str(tmp_path))
    assert line == f'2 source "hub" needs the extra: {install_hint("hub")}'


class Holder(Table):
    train: Source


@pytest.mark.parametrize("name", ["gsm8k", "./owner/name", "owner/name/more", "owner/name.jsonl\n", "../name", ""])
def test_the_name_of_a_dataset_is_an_owner_and_a_name(name):
    with pytest.raises(UserError) as error:
        validate(Holder, {"train": {"source": "hub", "name": name, "split": "train"}}, "recipe")
    assert str(error.value).startswith("recipe: train.name: ")


def test_a_split_must_be_named():
    with pytest.raises(UserError, match=r"^recipe: train\.split is missing$"):
        validate(Holder, {"train": {"source": "hub", "name": "openai/gsm8k"}}, "recipe")
