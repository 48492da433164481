import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from tests.conftest import random_model
from tests.training.helpers import random_groups, trainer_of
from torch import Tensor
from transformers import PreTrainedModel

from fipo.objective import (
    AGGREGATIONS,
    ALGORITHMS,
    Algorithm,
    LossInputs,
    algorithm,
    group_advantages,
    policy_loss,
)
from fipo.rollout.groups import Group
from fipo.training import update as updating
from fipo.training.passes.logprobs import Scores, old_scores, score
from fipo.training.passes.packing import Layout, Pack, pack
from fipo.training.policy.optimizer import MasterAdamW
from fipo.training.update import UpdateOutcome, update

GROUPS = random_groups(4, 4)
EXAMPLES = [7, 9, 4, 3] * 6
SHARING = [  # few-shot examples, then prompts of which some are long
    dataclasses.replace(group, prompt_tokens=EXAMPLES + [2 + i, 5] * (10 if i % 2 else 1))
    for i, group in enumerate(GROUPS)
]
ADVANTAGES = group_advantages(torch.tensor([[float(g.correct) for g in group.grades] for group in GROUPS]))


@dataclass(frozen=True, kw_only=True)
class MiniBatch:
    packs: list[Pack]
    old: list[Scores]


def mini_batches_of(
    model: PreTrainedModel,
    *,
    tokens: int = 10_000,
    count: int = 1,
    drift: float = 0.0,
    layout: Layout = "packed",
    groups: Sequence[Group] = GROUPS,
) -> list[MiniBatch]:
    """Packs with old log-probs; `drift` moves these, so that the ratios are not all 1."""
    mini_batches = pack(
        groups,
        ADVANTAGES,
        mini_batches=count,
        tokens_per_micro_batch=tokens,
        mask_truncated=False,
        layout=layout,
        device=torch.device("cpu"),
    )
    return [
        MiniBatch(
            packs=packs,
            old=[
                _drifted(one, scores, drift)
                for one, scores in zip(packs, old_scores(model, packs, 1.0, lambda: None), strict=True)
            ],
        )
        for packs in mini_batches
    ]


def _drifted(one: Pack, scores: Scores, drift: float) -> Scores:
    """Old log-probs moved by a function of the token and its place in the response alone."""
    tokens = torch.zeros_like(one.loss_mask, dtype=torch.long).masked_scatter(one.loss_mask, one.tokens)
    moved = scores.logprobs + drift * torch.sin(one.loss_mask.cumsum(1) * 1.7 + tokens)
    return dataclasses.replace(scores, logprobs=moved)


def run_update(
    model: PreTrainedModel, batch: MiniBatch, algorithm: Algorithm, learning_rate: float = 0.0
) -> UpdateOutcome:
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    return update(trainer_of(model, algorithm, optimizer), batch.packs, batch.old, None)


def gradients(model: PreTrainedModel) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.fixture(scope="module")
def cut() -> tuple[PreTrainedModel, list[MiniBatch]]:
    """A model and one mini-batch in every cut and layout: the old log-probs are those of every algorithm."""
    model = random_model().double()
    cuts = [(layout, tokens) for layout in ("padded", "packed") for tokens in (1, 50, 120, 10_000)]
    return model, [mini_batches_of(model, tokens=tokens, drift=1.5, layout=layout)[0] for layout, tokens in cuts]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_gradients_do_not_depend_on_how_a_mini_batch_is_cut_and_laid_out(
    name: str, cut: tuple[PreTrainedModel, list[MiniBatch]]
) -> None:
    model, batches = cut
    results = []
    for batch in batches:
        run_update(model, batch, ALGORITHMS[name])
        results.append(gradients(model).clone())
    assert len({len(batch.packs) for batch in batches}) >= 4
    for a, b in pairwise(results):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)
    assert results[0].norm() > 1e-3


@pytest.mark.parametrize("name", ["release_7b", "dapo"])
def test_gradients_are_the_same_where_prompts_and_examples_are_computed_once(name: str) -> None:
    model = random_model().double()
    compute_norms_in_float64(model)
    results = []
    for layout, tokens in (("padded", 10_000), ("packed", 1), ("packed", 120), ("packed", 10_000)):
        [batch] = mini_batches_of(model, tokens=tokens, drift=1.5, layout=layout, groups=SHARING)
        run_update(model, batch, ALGORITHMS[name])
        results.append((gradients(model).clone(), sum(one.input_ids.numel() for one in batch.packs)))
    assert results[-1][1] < 0.5 * results[1][1]
    for (a, _), (b, _) in pairwise(results):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_an_entropy_bonus_has_a_gradient_that_does_not_depend_on_the_cut(aggregation: str) -> None:
    model = random_model().double()
    chosen = algorithm("gspo", entropy_coef=0.2, aggregation=aggregation)
    results = []
    for layout in ("padded", "packed"):
        for tokens in (1, 50, 10_000):
            [batch] = mini_batches_of(model, tokens=tokens, drift=0.5, layout=layout)
            run_update(model, batch, chosen)
            results.append(gradients(model).clone())
    for a, b in pairwise(results):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)
    run_update(model, batch, algorithm("gspo", aggregation=aggregation))
    assert (results[-1] - gradients(model)).norm() > 1e-3


def test_an_entropy_bonus_alone_raises_the_entropy() -> None:
    model = random_model(scale=4.0)
    [batch] = mini_batches_of(model)
    packs = [dataclasses.replace(one, advantages=torch.zeros_like(one.advantages)) for one in batch.packs]
    chosen = algorithm("dapo", entropy_coef=1.0)
    entropies = []
    for _ in range(3):
        outcome = update(
            trainer_of(model, chosen, torch.optim.SGD(model.parameters(), lr=0.2), max_grad_norm=1.0), packs, None, None
        )
        [one] = outcome.packs
        assert not one.old.entropy.requires_grad
        entropies.append(float(one.old.entropy.sum()))
    assert entropies[0] < entropies[1] < entropies[2]


def compute_norms_in_float64(model: PreTrainedModel) -> None:
    """transformers' norms compute in float32, where the sum of many gradients is rounded once, not each of them."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__.endswith("RMSNorm"):
                norm = torch.nn.RMSNorm(child.weight.shape, eps=child.variance_epsilon).double()
                setattr(module, name, norm)


def test_the_sequence_filter_takes_its_tokens_out_of_the_one_denominator() -> None:
    model = random_model().double()
    [batch] = mini_batches_of(model, tokens=50, drift=6.0)
    outcome = run_update(model, batch, ALGORITHMS["release_7b"])
    cut = gradients(model).clone()
    kept = sum(int(one.output.kept.sum()) for one in outcome.packs)
    assert 0 < kept < sum(len(one.pack.tokens) for one in outcome.packs)

    [whole] = mini_batches_of(model, drift=6.0)
    [one], [old] = whole.packs, whole.old
    inputs = LossInputs(
        logprobs=score(model, one, 1.0, entropy=False).logprobs,
        old_logprobs=old.logprobs,
        advantages=one.advantages,
        loss_mask=one.loss_mask,
    )
    model.zero_grad()
    policy_loss(inputs, ALGORITHMS["release_7b"].config, denominator=kept).loss.backward()
    # Not to 1e-10: transformers' RMSNorm passes gradients through float32, and this one is scaled before it.
    torch.testing.assert_close(cut, gradients(model), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("scored_before", [False, True])
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama"])
def test_in_the_first_mini_batch_every_log_ratio_is_exactly_zero_and_every_weight_exactly_one(
    architecture: str, scored_before: bool, layout: Layout
) -> None:
    model = random_model(architecture)
    first, _ = mini_batches_of(model, count=2, layout=layout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    trainer = trainer_of(model, ALGORITHMS["release_32b"], optimizer, max_grad_norm=1.0)
    outcome = update(trainer, first.packs, first.old if scored_before else None, None)
    for one in outcome.packs:
        assert bool((one.output.log_ratio == 0).all())
        assert bool((one.output.influence_weights[one.output.loss_mask] == 1).all())


def test_old_scores_that_the_update_computes_itself_are_those_computed_before_it() -> None:
    model = random_model()
    [batch] = mini_batches_of(model)
    trainer = trainer_of(model, ALGORITHMS["dapo"], torch.optim.SGD(model.parameters(), lr=0.1), max_grad_norm=1.0)
    outcome = update(trainer, batch.packs, None, None)
    for one, old in zip(outcome.packs, batch.old, strict=True):
        assert torch.equal(one.old.logprobs, old.logprobs)
        assert torch.equal(one.old.entropy, old.entropy)


def test_from_the_second_mini_batch_on_the_weights_differ_from_one() -> None:
    model = random_model()
    first, second = mini_batches_of(model, count=2)
    run_update(model, first, ALGORITHMS["release_7b"], learning_rate=0.5)
    outcome = run_update(model, second, ALGORITHMS["release_7b"])
    weights = torch.cat([one.output.influence_weights[one.output.loss_mask] for one in outcome.packs])
    assert float(weights.std()) > 1e-3


def test_with_one_mini_batch_fipo_is_dapo_bit_for_bit() -> None:
    results = []
    for name in ("release_32b", "dapo"):
        model = random_model()
        [batch] = mini_batches_of(model)
        run_update(model, batch, ALGORITHMS[name], learning_rate=0.1)
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*results)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_never_reaches_the_weights(bad: float) -> None:
    model = random_model()
    before = [p.detach().clone() for p in model.parameters()]
    [batch] = mini_batches_of(model)
    advantages = batch.packs[0].advantages.clone()
    advantages[0] = bad
    batch.packs[0] = dataclasses.replace(batch.packs[0], advantages=advantages)
    outcome = run_update(model, batch, ALGORITHMS["dapo"], learning_rate=0.1)
    assert outcome.skipped
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_an_empty_mini_batch_changes_nothing() -> None:
    model = random_model()
    before = [p.detach().clone() for p in model.parameters()]
    outcome = run_update(model, MiniBatch(packs=[], old=[]), ALGORITHMS["dapo"], learning_rate=0.1)
    assert not outcome.skipped
    assert outcome.grad_norm == 0
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_an_update_that_runs_out_of_memory_begins_again_without_the_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    """And gives what it would have given, whatever of the gradient was there already."""
    gave_back: list[str] = []
    weights, calls = [], 0

    def failing(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == 3 and not gave_back:
            raise torch.OutOfMemoryError("no more")
        return score(*args, **kwargs)

    for fails in (False, True):
        model = random_model()
        trainer = trainer_of(model, ALGORITHMS["release_32b"], MasterAdamW(model, lr=1e-2, weight_decay=0.1))
        trainer = dataclasses.replace(trainer, make_room=lambda: gave_back.append("all"))
        [mini_batch] = mini_batches_of(model, tokens=40)
        assert len(mini_batch.packs) > 3
        if fails:
            monkeypatch.setattr(updating, "score", failing)
        update(trainer, mini_batch.packs, None, None)
        weights.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
    assert gave_back == ["all"]
    assert torch.equal(*weights)


def test_a_pass_that_runs_out_of_memory_begins_again_without_the_sampler() -> None:
    gave_back: list[str] = []
    model = random_model()
    trainer = trainer_of(model, ALGORITHMS["dapo"], MasterAdamW(model, lr=1e-2, weight_decay=0.1))
    trainer = dataclasses.replace(trainer, make_room=lambda: gave_back.append("all"))

    def work() -> int:
        if not gave_back:
            raise torch.OutOfMemoryError("no more")
        return 7

    assert trainer.with_room(work) == 7
    assert gave_back == ["all"]


def test_an_update_that_does_not_fit_without_the_sampler_either_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_, **__):
        raise torch.OutOfMemoryError("no more")

    model = random_model()
    [mini_batch] = mini_batches_of(model)
    monkeypatch.setattr(updating, "score", failing)
    with pytest.raises(torch.OutOfMemoryError, match="no more"):
        update(
            trainer_of(model, ALGORITHMS["dapo"], MasterAdamW(model, lr=1e-2, weight_decay=0.1)),
            mini_batch.packs,
            None,
            None,
        )
