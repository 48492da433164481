"""docs/metrics.md beside the keys that runs write: no key without a definition, no definition without a key."""

import re
from itertools import product
from pathlib import Path

import pytest
from tests.training.helpers import run_recipe


class Doc:
    """The tables of docs/metrics.md, by the heading that they stand under."""

    def __init__(self, text: str) -> None:
        self.sections = {part.splitlines()[0]: part for part in text.split("\n## ")}

    def rows(self, heading: str) -> list[list[str]]:
        lines = [line for line in self.sections[heading].splitlines() if line.startswith("| ")][1:]
        return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]

    def keys(self, heading: str, *, column: int = 0, when: str | None = None) -> set[str]:
        rows = [row for row in self.rows(heading) if when is None or row[1] == when]
        return {
            key for row in rows for pattern in re.findall(r"`([^`]+)`", row[column]) for key in spelled_out(pattern)
        }


def spelled_out(pattern: str, mini_batches: int = 2) -> list[str]:
    """`a/{b,c}/d` as a/b/d and a/c/d; `mini_batch_I` as mini_batch_0 and so on."""
    parts = re.split(r"\{([^}]*)\}", pattern)
    keys = [
        "".join(choice) for choice in product(*(part.split(",") if i % 2 else [part] for i, part in enumerate(parts)))
    ]
    return [
        key.replace("batch_I", f"batch_{i}") for key in keys for i in range(mini_batches if "batch_I" in key else 1)
    ]


@pytest.fixture
def doc(repository: Path) -> Doc:
    return Doc((repository / "docs" / "metrics.md").read_text())


def test_a_step_writes_exactly_the_documented_keys(folder: Path, doc: Doc) -> None:
    base, plain, evaluated = run_recipe(folder, "run", run__steps="2").read_metrics()
    every = doc.keys("Every training step")
    several = doc.keys("Where the recipe asks for it", when="`update.mini_batches` > 1")
    evaluation = doc.keys("Steps with an evaluation")
    assert len(every) > 60 and several and evaluation
    assert set(plain) == every | several
    assert set(evaluated) == every | several | evaluation
    assert set(base) == {"step"} | evaluation


def test_what_a_recipe_asks_for_adds_exactly_its_documented_keys(folder: Path, doc: Doc) -> None:
    asked = {
        "objective__kl_coef": "0.1",
        "objective__importance_weight_cap": "2.0",
        "objective__importance_mask": "[0.5, 5.0]",
        "update__mini_batches": "1",
    }
    line = run_recipe(folder, "run", run__steps="2", **asked).read_metrics()[1]
    several = doc.keys("Where the recipe asks for it", when="`update.mini_batches` > 1")
    optional = doc.keys("Where the recipe asks for it") - several
    half = {key for key in optional if key.startswith(("fipo/future_kl_noise", "fipo/rounding"))}
    half |= {"time/rounding", "update/loss_scale", "update/overflowed"}
    alone = {key for key in doc.keys("Every training step") if "mini_batch_1" not in key}
    assert set(line) == alone | (optional - half)


def test_a_float16_policy_adds_exactly_the_documented_keys_of_its_rounding_and_its_scale(
    folder: Path, doc: Doc
) -> None:
    line = run_recipe(folder, "run", run__steps="1", eval__every="9", model__dtype="float16").read_metrics()[1]
    every = doc.keys("Every training step") | doc.keys("Steps with an evaluation")
    asked = doc.keys("Where the recipe asks for it", when="`update.mini_batches` > 1")
    rounding = doc.keys("Where the recipe asks for it", when="`model.dtype` below float32, or TF32")
    scale = doc.keys("Where the recipe asks for it", when='`model.dtype = "float16"`')
    assert len(rounding) == 7 and len(scale) == 2
    assert set(line) == every | asked | rounding | scale


def test_every_curve_of_the_paper_is_a_documented_key(doc: Doc) -> None:
    curves = doc.keys("The training curves of the paper", column=1)
    documented = doc.keys("Every training step") | doc.keys("Steps with an evaluation")
    assert len(curves) >= 20
    assert curves <= documented
