"""`model.path` of a recipe names a run: its newest checkpoint is trained on."""

from pathlib import Path

import pytest
import torch
from tests.training.helpers import run_recipe

from fipo.errors import UserError
from fipo.models.fingerprint import fingerprint_of
from fipo.models.loading import load, stop_tokens
from fipo.rollout.sample import sample_texts

LORA = {"model__lora__rank": "4", "update__learning_rate": "1e-2"}
FOUR_BIT = LORA | {"model__lora__base": "4bit"}
KINDS = {"all weights": {}, "adapters": LORA, "adapters on 4 bits": FOUR_BIT}


@pytest.mark.parametrize("kind", KINDS)
def test_another_run_begins_with_the_weights_that_a_run_ended_with(folder: Path, kind: str) -> None:
    if kind != "all weights":
        pytest.importorskip("peft")
    if KINDS[kind] is FOUR_BIT:
        pytest.importorskip("bitsandbytes")
    first = run_recipe(folder, "first", run__steps="1", **KINDS[kind])
    newest = first.all_checkpoints()[-1]
    further = run_recipe(folder, "further", run__steps="1", model__path=str(first.path))
    assert further.read_config()["model"]["path"] == str(newest)
    model, tokenizer = load(str(newest))
    begun = further.read_config()["resolved"]["fingerprint"]
    assert begun == fingerprint_of(model, tokenizer, stop_tokens(model, tokenizer))
    original, _ = load(str(folder / "model"))
    moved = [not torch.equal(a, b) for a, b in zip(model.parameters(), original.parameters(), strict=True)]
    assert any(moved)
    assert len(further.read_metrics()) == 2
    assert sample_texts(str(further.path), ["1+2="], samples=1, temperature=0.0, max_tokens=4, seed=0)


def test_in_4_bits_again_it_would_be_the_base_again_and_is_refused_in_one_line(folder: Path) -> None:
    pytest.importorskip("peft")
    pytest.importorskip("bitsandbytes")
    first = run_recipe(folder, "first", run__steps="1", **FOUR_BIT)
    with pytest.raises(
        UserError, match=r'^model\.lora\.base: "4bit" would round away .*first.* is of such a run: give'
    ):
        run_recipe(folder, "further", model__path=str(first.path), **FOUR_BIT)
    assert not (folder / "runs" / "further").exists()
