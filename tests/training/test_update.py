import dataclasses
from itertools import pairwise

import pytest
import torch
from tests.conftest import random_model
from tests.training.helpers import random_groups
from torch import Tensor
from transformers import PreTrainedModel

from fipo.objective import ALGORITHMS, Algorithm, LossInputs, group_advantages, policy_loss
from fipo.training.logprobs import score, token_logprobs
from fipo.training.packing import pack
from fipo.training.update import UpdateOutcome, update

GROUPS = random_groups(4, 4)
ADVANTAGES = group_advantages(torch.tensor([[float(g.correct) for g in group.grades] for group in GROUPS]))


def scored_packs(model: PreTrainedModel, *, tokens: int = 10_000, mini_batches: int = 1, drift: float = 0.0):
    """Packs with old log-probs; `drift` moves these, so that the ratios are not all 1."""
    packs = pack(
        GROUPS,
        ADVANTAGES,
        mini_batches=mini_batches,
        tokens_per_micro_batch=tokens,
        mask_truncated=False,
        device=torch.device("cpu"),
    )
    scored = [[score(model, p, 1.0) for p in mini_batch] for mini_batch in packs]
    return [[_drifted(one, drift) for one in mini_batch] for mini_batch in scored]


def _drifted(scored, drift: float):
    """Old log-probs moved by a function of the token and its place in the response alone."""
    place = scored.pack.loss_mask.cumsum(1)
    moved = scored.old_logprobs + drift * torch.sin(place * 1.7 + scored.pack.scored_ids)
    return dataclasses.replace(scored, old_logprobs=moved)


def run_update(model: PreTrainedModel, packs, algorithm: Algorithm, learning_rate: float = 0.0) -> UpdateOutcome:
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    return update(
        model, optimizer, packs, algorithm, temperature=1.0, token_divisor=divisor(algorithm), max_grad_norm=1e9
    )


def divisor(algorithm: Algorithm) -> float | None:
    return 12.0 if algorithm.aggregation == "seq-mean-token-sum-norm" else None


def gradients(model: PreTrainedModel) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("name", ALGORITHMS)
def test_gradients_do_not_depend_on_how_a_mini_batch_is_cut(name: str) -> None:
    model = random_model().double()
    results = []
    for tokens in (1, 50, 120, 10_000):
        [packs] = scored_packs(model, tokens=tokens, drift=1.5)
        outcome = run_update(model, packs, ALGORITHMS[name])
        results.append((gradients(model).clone(), len(outcome.outputs)))
    assert len({packs for _, packs in results}) == 4
    for (a, _), (b, _) in pairwise(results):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)
    assert results[0][0].norm() > 1e-3


def test_the_sequence_filter_takes_its_tokens_out_of_the_one_denominator() -> None:
    model = random_model().double()
    [packs] = scored_packs(model, tokens=50, drift=6.0)
    outcome = run_update(model, packs, ALGORITHMS["release_7b"])
    cut = gradients(model).clone()
    kept = sum(int(output.kept.sum()) for output in outcome.outputs)
    assert 0 < kept < sum(int(output.loss_mask.sum()) for output in outcome.outputs)

    [[whole]] = scored_packs(model, drift=6.0)
    inputs = LossInputs(
        logprobs=token_logprobs(model, whole.pack, 1.0),
        old_logprobs=whole.old_logprobs,
        advantages=whole.pack.advantages,
        loss_mask=whole.pack.loss_mask,
    )
    model.zero_grad()
    policy_loss(inputs, ALGORITHMS["release_7b"].config, denominator=kept).loss.backward()
    # Not to 1e-10: transformers' RMSNorm passes gradients through float32, and this one is scaled before it.
    torch.testing.assert_close(cut, gradients(model), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama"])
def test_in_the_first_mini_batch_every_log_ratio_is_exactly_zero_and_every_weight_exactly_one(architecture) -> None:
    model = random_model(architecture)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    outcomes = [
        update(
            model,
            optimizer,
            packs,
            ALGORITHMS["release_32b"],
            temperature=0.7,
            token_divisor=None,
            max_grad_norm=1.0,
        )
        for packs in [[score(model, s.pack, 0.7) for s in packs] for packs in scored_packs(model, mini_batches=2)]
    ]
    for output in outcomes[0].outputs:
        assert bool((output.log_ratio == 0).all())
        assert bool((output.influence_weights[output.loss_mask] == 1).all())


def test_from_the_second_mini_batch_on_the_weights_differ_from_one() -> None:
    model = random_model()
    first, second = scored_packs(model, mini_batches=2)
    run_update(model, first, ALGORITHMS["release_7b"], learning_rate=0.5)
    outcome = run_update(model, second, ALGORITHMS["release_7b"])
    weights = torch.cat([output.influence_weights[output.loss_mask] for output in outcome.outputs])
    assert float(weights.std()) > 1e-3


def test_with_one_mini_batch_fipo_is_dapo_bit_for_bit() -> None:
    results = []
    for name in ("release_32b", "dapo"):
        model = random_model()
        [packs] = scored_packs(model)
        run_update(model, packs, ALGORITHMS[name], learning_rate=0.1)
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*results)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_never_reaches_the_weights(bad: float) -> None:
    model = random_model()
    before = [p.detach().clone() for p in model.parameters()]
    [packs] = scored_packs(model)
    advantages = packs[0].pack.advantages.clone()
    advantages[0] = bad
    packs[0] = dataclasses.replace(packs[0], pack=dataclasses.replace(packs[0].pack, advantages=advantages))
    outcome = run_update(model, packs, ALGORITHMS["dapo"], learning_rate=0.1)
    assert outcome.skipped
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_an_empty_mini_batch_changes_nothing() -> None:
    model = random_model()
    before = [p.detach().clone() for p in model.parameters()]
    outcome = run_update(model, [], ALGORITHMS["dapo"], learning_rate=0.1)
    assert not outcome.skipped
    assert outcome.grad_norm == 0
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_entropy_is_that_of_the_sampling_distribution() -> None:
    model = random_model()
    [packs] = scored_packs(model)
    one = packs[0].pack
    with torch.no_grad():
        logits = model(input_ids=one.input_ids, use_cache=False).logits[:, -one.loss_mask.shape[1] - 1 : -1]
    expected = torch.distributions.Categorical(logits=logits / 0.5).entropy()
    entropy = score(model, one, 0.5).entropy
    torch.testing.assert_close(entropy, expected * one.loss_mask, atol=1e-5, rtol=1e-5)
