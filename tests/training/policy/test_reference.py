"""The KL penalty's reference and the importance weights in the trainer: the objective's own tests have the formulas."""

import dataclasses
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tests.conftest import random_model
from tests.training.helpers import run_recipe, trainer_of
from tests.training.test_loop import metrics_without_times, weights_hash
from tests.training.test_update import MiniBatch, gradients, mini_batches_of
from torch import Tensor
from transformers import PreTrainedModel

from fipo.objective import ALGORITHMS, Algorithm
from fipo.telemetry.run_directory import RunDirectory
from fipo.training import load_recipe
from fipo.training.policy.lora import adapt, is_adapted
from fipo.training.policy.optimizer import MasterAdamW
from fipo.training.policy.reference import Reference, reference_of
from fipo.training.update import UpdateOutcome, update

KL = {"objective__kl_coef": "0.5"}
WEIGHTS = {"objective__importance_weight_cap": "0.5"}
LORA = {"model__lora__rank": "4", "update__learning_rate": "1e-2"}


def run_update(
    model: PreTrainedModel, batch: MiniBatch, algorithm: Algorithm, reference: Reference | None, *, scored: bool = True
) -> UpdateOutcome:
    trainer = trainer_of(model, algorithm, torch.optim.SGD(model.parameters(), lr=0.0))
    frozen = reference and reference.logprobs(batch.packs, 1.0)
    return update(trainer, batch.packs, batch.old if scored else None, frozen)


def sampled_near(batch: MiniBatch) -> MiniBatch:
    """The same tokens from a sampler whose log-probs are those of the trainer but for a function of their place."""
    packs = [
        dataclasses.replace(one, rollout_logprobs=old.logprobs + torch.sin(one.loss_mask.cumsum(1) * 1.3))
        for one, old in zip(batch.packs, batch.old, strict=True)
    ]
    return dataclasses.replace(batch, packs=packs)


def gradient_of(algorithm: Algorithm, reference: Reference | None, **options: bool) -> Tensor:
    model = random_model()
    [batch] = mini_batches_of(model)
    run_update(model, sampled_near(batch), algorithm, reference, **options)
    return gradients(model).clone()


def changed(name: str, **changes: float) -> Algorithm:
    return dataclasses.replace(ALGORITHMS[name], **changes)


@pytest.fixture(scope="module")
def cut() -> tuple[PreTrainedModel, list[tuple[MiniBatch, list[Tensor]]]]:
    """A model, and one mini-batch in every cut and layout with a reference's log-probs: those of every algorithm."""
    model, other = random_model().double(), Reference(model=random_model(seed=1).double())
    batches = []
    for layout in ("padded", "packed"):
        for tokens in (1, 50, 10_000):
            [batch] = mini_batches_of(model, tokens=tokens, drift=1.5, layout=layout)
            batches.append((sampled_near(batch), other.logprobs(batch.packs, 1.0)))
    return model, batches


@pytest.mark.parametrize("name", ALGORITHMS)
def test_gradients_with_penalty_and_weights_do_not_depend_on_how_a_mini_batch_is_cut_and_laid_out(
    name: str, cut: tuple[PreTrainedModel, list[tuple[MiniBatch, list[Tensor]]]]
) -> None:
    model, batches = cut
    trainer = trainer_of(
        model, changed(name, kl_coef=0.3, importance_weight_cap=2.0), torch.optim.SGD(model.parameters(), lr=0.0)
    )
    results = []
    for batch, frozen in batches:
        update(trainer, batch.packs, batch.old, frozen)
        results.append(gradients(model).clone())
    assert len({len(batch.packs) for batch, _ in batches}) >= 3
    for a, b in pairwise(results):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)
    assert results[0].norm() > 1e-3


def test_each_knob_moves_the_gradient() -> None:
    other = Reference(model=random_model(seed=1))
    algorithms = [
        changed("dapo"),
        changed("dapo", importance_weight_cap=0.5),
        changed("dapo", importance_weight_cap=1.5),
        changed("dapo", kl_coef=0.1),
        changed("dapo", kl_coef=0.2),
    ]
    found = [gradient_of(algorithm, other if algorithm.kl_coef else None) for algorithm in algorithms]
    for a, b in pairwise(found):
        assert (a - b).norm() > 1e-3


def test_weights_are_the_same_whether_the_update_computes_the_old_logprobs_or_gets_them() -> None:
    algorithm = changed("dapo", importance_weight_cap=1.5)
    assert torch.equal(gradient_of(algorithm, None, scored=True), gradient_of(algorithm, None, scored=False))


def test_a_policy_that_is_its_reference_has_a_penalty_and_a_gradient_of_exactly_zero() -> None:
    itself = Reference(model=random_model())
    assert torch.equal(gradient_of(changed("dapo", kl_coef=0.5), itself), gradient_of(changed("dapo"), None))
    model = random_model()
    [batch] = mini_batches_of(model)
    outcome = run_update(model, batch, changed("dapo", kl_coef=0.5), itself)
    assert [float(one.output.reference_kl) for one in outcome.packs] == [0.0] * len(outcome.packs)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_update_does_not_move_the_reference(folder: Path, dtype: torch.dtype, lora: bool) -> None:
    model = random_model().to(dtype)
    if lora:
        pytest.importorskip("peft")
    settings = {"objective.kl_coef": "0.5"} | ({"model.lora.rank": "4"} if lora else {})
    recipe = load_recipe(folder / "recipe.toml", settings)
    if recipe.model.lora is not None:
        adapt(model, recipe.model.lora)
    [batch] = mini_batches_of(model)
    reference = reference_of(recipe, model)
    assert reference is not None
    assert is_adapted(model) == (reference.model is model) == lora
    optimizer = MasterAdamW(model, lr=1e-2, weight_decay=0.0)
    before = reference.logprobs(batch.packs, 1.0)
    assert all(torch.equal(a, old.logprobs) for a, old in zip(before, batch.old, strict=True))
    for _ in range(2):  # the first moves LoRA's B, the second sees that
        trainer = trainer_of(model, changed("dapo", kl_coef=0.5), optimizer, max_grad_norm=1.0)
        outcome = update(trainer, batch.packs, batch.old, before)
    assert any(bool((one.output.log_ratio != 0).any()) for one in outcome.packs)
    assert all(torch.equal(a, b) for a, b in zip(before, reference.logprobs(batch.packs, 1.0), strict=True))


def test_without_a_coefficient_there_is_no_reference(folder: Path) -> None:
    assert reference_of(load_recipe(folder / "recipe.toml", {}), random_model()) is None


@pytest.mark.parametrize(
    "settings",
    [
        KL | LORA,
        pytest.param(KL | WEIGHTS, marks=pytest.mark.slow),
        pytest.param(KL | {"model__dtype": "bfloat16"}, marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_has_the_reference_it_began_with_and_equals_the_uninterrupted_one(
    folder: Path, settings: dict[str, str]
) -> None:
    if LORA.items() <= settings.items():
        pytest.importorskip("peft")
    whole = run_recipe(folder, "whole", **settings)
    run_recipe(folder, "parts", run__steps="2", **settings)
    resumed = run_recipe(folder, "parts", resume=True, **settings)
    assert metrics_without_times(resumed) == metrics_without_times(whole)
    assert weights_hash(resumed) == weights_hash(whole)
    assert all(line["policy/reference_kl"] > 0 for line in whole.read_metrics()[1:])


def test_the_penalty_holds_the_policy_back(folder: Path) -> None:
    loose, tight = (run_recipe(folder, f"kl{coef}", objective__kl_coef=coef) for coef in ("1e-9", "10.0"))
    far, near = (run.read_metrics()[-1]["policy/reference_kl"] for run in (loose, tight))
    assert near < 0.9 * far


def test_a_cap_below_1_caps_every_weight_of_a_sampler_that_agrees(whole: RunDirectory, folder: Path) -> None:
    line = run_recipe(folder, "run", run__steps="1", **WEIGHTS).read_metrics()[1]
    weights = {key: value for key, value in line.items() if key.startswith("rollout/importance_weight/")}
    assert weights == {
        "rollout/importance_weight/mean": 0.5,
        "rollout/importance_weight/max": 0.5,
        "rollout/importance_weight/capped": 1.0,
    }
    assert line["policy/loss"] != whole.read_metrics()[1]["policy/loss"]
