"""The tiny model and its problems as verl reads them: a model folder with a chat template, parquet files."""

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, AutoTokenizer

from fipo.data.made.signed_sums import signed_sums
from fipo.data.problem import Problem

PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"  # the question itself, as the base knows it
QWEN_TOKENS = ("\n", "<|im_end|>")  # verl's agent loop wants them of every model of Qwen's type


def write_model(folder: Path) -> Path:
    """The embedded model (fipo.models.tiny: 0.8M parameters, a token per character) as verl takes a Qwen2.

    The two tokens that it lacks get the embedding of `<unk>`, which is as good as never sampled.
    """
    with as_file(files("fipo.models").joinpath("tiny")) as tiny:
        tokenizer = AutoTokenizer.from_pretrained(tiny)
        model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=True) for token in QWEN_TOKENS])
    tokenizer.chat_template = PLAIN
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        embeddings = model.get_input_embeddings().weight
        embeddings[-len(QWEN_TOKENS) :] = embeddings[tokenizer.unk_token_id]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_problems(path: Path, problems: list[Problem]) -> Path:
    """A parquet file in the columns of verl's datasets."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".half")
    pq.write_table(pa.Table.from_pylist([_row(index, problem) for index, problem in enumerate(problems)]), half)
    return half.replace(path)


def write_materials(folder: Path, *, train: int = 256, validate: int = 8) -> dict[str, Path]:
    """Model, training and validation problems below `folder`; what is there is left alone, unless it was half made."""
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
