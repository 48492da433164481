"""Files in DAPO's published schema, and an object that shows whether it was unpickled."""

import json

import pyarrow
from pyarrow import parquet


def dapo_row(number, question="What is 2+2?", answer="4"):
    """A row as DAPO publishes it."""
    return {
        "data_source": "math_dapo",
        "prompt": [{"content": question, "role": "user"}],
        "ability": "MATH",
        "reward_model": {"ground_truth": answer, "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": f"id-{number}"},
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
