"""Rows and files as they are published, what is read of a file, and an object that shows whether it was unpickled."""

import json

import pyarrow
import pytest
from pyarrow import parquet

from fipo.data.bad_rows import BadRows
from fipo.data.files import read_rows
from fipo.data.layouts import columns_of
from fipo.errors import UserError


def dapo_row(number, question="What is 2+2?", answer="4"):
    """A row as DAPO publishes it."""
    return {
        "data_source": "math_dapo",
        "prompt": [{"content": question, "role": "user"}],
        "ability": "MATH",
        "reward_model": {"ground_truth": answer, "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": f"id-{number}"},
    }


PUBLISHED = {  # rows with the columns of a published dataset, and the answer that each gives
    "openai/gsm8k": [
        (
            {
                "question": "A farm sells 54 crates of 20 eggs. How many eggs is that?",
                "answer": "Each crate has 20 eggs, so 54*20 = <<54*20=1080>>1080 eggs.\n#### 1,080",
            },
            "1080",
        ),
        ({"question": "It was 2 degrees and fell by 5. What is it now?", "answer": "2-5 = -3\n#### -3"}, "-3"),
    ],
    "DigitalLearningGmbH/MATH-lighteval": [
        (
            {
                "problem": "Compute $\\frac{1}{4}+\\frac{1}{4}$.",
                "level": "Level 1",
                "type": "Algebra",
                "solution": "Not $\\boxed{1}$: the sum is $\\frac{2}{4} = \\boxed{\\frac{1}{2}}$.",
            },
            "\\frac{1}{2}",
        ),
    ],
    "HuggingFaceH4/MATH-500": [
        (
            {
                "problem": "Where is $x^2 = 4$?",
                "solution": "At $\\boxed{-2, 2}$, both.",
                "answer": "-2, 2",
                "subject": "Algebra",
                "level": 2,
                "unique_id": "test/algebra/1.json",
            },
            "-2, 2",
        ),
    ],
    "Maxwell-Jia/AIME_2024": [
        ({"ID": "2024-I-1", "Problem": "What is $17+16$?", "Solution": "It is 33.", "Answer": 33}, "33"),
    ],
    "HuggingFaceH4/aime_2024": [
        (
            {
                "id": 60,
                "problem": "What is $17+16$?",
                "solution": "It is $\\boxed{033}$.",
                "answer": "033",
                "url": "https://artofproblemsolving.com/",
                "year": "2024",
            },
            "33",
        ),
    ],
    "math-ai/aime25": [({"problem": "What is $35*2$?", "answer": "70", "id": "0"}, "70")],
    "opencompass/AIME2025": [({"question": "What is $6*56$ degrees?", "answer": "336^\\circ"}, "336^\\circ")],
}


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_parquet(path, rows, **options):
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, **options)


WRITERS = {"jsonl": write_jsonl, "parquet": write_parquet}


class Canary:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def read(path, budget=1000):
    """(rows by their place, what was said), the path taken off."""
    said = []
    rows = dict(read_rows(path, columns_of, BadRows(budget, said.append)))
    return {where.removeprefix(f"{path}, "): row for where, row in rows.items()}, [
        line.removeprefix(f"{path}, ") for line in said
    ]


def refusal(path, budget=1000):
    """The one line with which a file is refused."""
    with pytest.raises(UserError) as error:
        read(path, budget)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def only_columns(row):
    return {name: value for name, value in row.items() if name in columns_of(row)}
