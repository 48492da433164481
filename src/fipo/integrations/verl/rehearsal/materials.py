"""The tiny model and its problems as verl reads them: a model folder with a chat template, parquet files."""

import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fipo.tasks.problem import Problem
from fipo.tasks.signed_sums import signed_sums

PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"  # the question itself, as the base knows it
TEMPLATE_FILE = "chat_template.jinja"


def write_model(folder: Path) -> Path:
    """The embedded model (fipo.models.tiny: 0.8M parameters, a token per character) with a chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files("fipo.models").joinpath("tiny").iterdir():
        if file.is_file():
            shutil.copyfile(str(file), folder / file.name)
    (folder / TEMPLATE_FILE).write_text(PLAIN, encoding="utf-8")
    return folder


def write_problems(path: Path, problems: list[Problem]) -> Path:
    """A parquet file in the columns of verl's datasets."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([_row(index, problem) for index, problem in enumerate(problems)]), path)
    return path


def write_materials(folder: Path, *, train: int = 256, validate: int = 8) -> dict[str, Path]:
    """Model, training and validation problems below `folder`; what is there already is left alone."""
    paths = {"model": folder / "model", "train": folder / "train.parquet", "validate": folder / "validate.parquet"}
    if not paths["validate"].exists():
        write_model(paths["model"])
        write_problems(paths["train"], signed_sums("train", train))
        write_problems(paths["validate"], signed_sums("eval", validate))
    return paths


def _row(index: int, problem: Problem) -> dict[str, Any]:
    return {
        "data_source": problem.source,
        "prompt": [{"role": "user", "content": problem.text}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": problem.answer},
        "extra_info": {"index": index},
    }
