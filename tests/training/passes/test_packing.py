from dataclasses import replace

import pytest
import torch
from tests.training.helpers import random_groups

from fipo.rollout.groups import Group
from fipo.training.passes.packing import Layout, Pack, pack
from fipo.training.passes.segments import spans_of

CPU = torch.device("cpu")


@pytest.fixture(params=["padded", "packed"])
def layout(request: pytest.FixtureRequest) -> Layout:
    return request.param


def packs_of(
    groups: list[Group], layout: Layout, *, mini_batches: int = 2, tokens: int = 60, mask_truncated: bool = False
) -> list[list[Pack]]:
    return pack(
        groups,
        torch.arange(len(groups) * 4.0).reshape(len(groups), 4),
        mini_batches=mini_batches,
        tokens_per_micro_batch=tokens,
        mask_truncated=mask_truncated,
        layout=layout,
        device=CPU,
    )


def sequences(one: Pack) -> list[list[int]]:
    """The tokens of each sequence with what pads it."""
    if one.segments is None:
        return one.input_ids.tolist()
    last = [int(places[-1]) + 1 for places in one.before.split(one.loss_mask.sum(1).tolist())]
    row = one.input_ids[0].tolist()
    return [
        [row[i] for start, stop in span.seen for i in range(start, stop)]
        for end in last
        for span in spans_of(one.segments)
        if span.start <= end < span.end
    ]


def trained_tokens(one: Pack) -> list[list[int]]:
    """Of each sequence, by the mask and by `tokens`."""
    counts = one.loss_mask.sum(1).tolist()
    return [part.tolist() for part in one.tokens.split(counts)]


@pytest.mark.parametrize("tokens", [1, 60, 10_000])
def test_every_response_is_packed_once_with_its_own_tokens_and_advantage(layout: Layout, tokens: int) -> None:
    groups = random_groups(5, 4)
    seen = []
    for packs in packs_of(groups, layout, tokens=tokens):
        for one in packs:
            rows = zip(one.rollouts, sequences(one), trained_tokens(one), one.advantages, strict=True)
            for (g, m), ids, trained, advantage in rows:
                prompt, response = groups[g].prompt_tokens, groups[g].responses[m].tokens
                whole = prompt + response
                assert [int(token) for token in ids] == whole + [0] * (len(ids) - len(whole))
                assert trained == response
                assert float(advantage) == 4 * g + m
                seen.append((g, m))
    assert sorted(seen) == [(g, m) for g in range(5) for m in range(4)]


def test_each_trained_token_stands_after_the_one_that_predicts_it(layout: Layout) -> None:
    for packs in packs_of(random_groups(5, 4), layout):
        for one in packs:
            row = one.input_ids.flatten()
            groups = [random_groups(5, 4)[g] for g, _ in one.rollouts]
            for places, tokens, group in zip(
                one.before.split(one.loss_mask.sum(1).tolist()), trained_tokens(one), groups, strict=True
            ):
                assert row[places[0]] == group.prompt_tokens[-1]
                assert row[places[1:]].tolist() == tokens[:-1]


def test_packed_prompts_stand_once_and_nothing_is_padded() -> None:
    groups = [replace(group, prompt_tokens=[2 + i] * 20) for i, group in enumerate(random_groups(5, 4))]
    tokens = sum(len(g.prompt_tokens) + sum(len(r.tokens) for r in g.responses) for g in groups)
    assert sum(one.input_ids.numel() for packs in packs_of(groups, "packed", tokens=10_000) for one in packs) == tokens


def test_the_work_of_packed_prompts_is_done_once() -> None:
    groups = [replace(group, prompt_tokens=[2] * 20) for group in random_groups(1, 4)]
    prompt, responses = len(groups[0].prompt_tokens), [len(r.tokens) for r in groups[0].responses]
    [[padded]] = packs_of(groups, "padded", mini_batches=1, tokens=10_000)
    [[packed]] = packs_of(groups, "packed", mini_batches=1, tokens=10_000)
    assert sorted(padded.work) == sorted((prompt + length, 0) for length in responses)
    assert packed.work == [(prompt, 0), *((length, prompt) for length in responses)]
    assert sorted(padded.lengths) == sorted(packed.lengths) == sorted(prompt + length for length in responses)


def test_a_pack_holds_at_most_the_token_budget_unless_one_sequence_exceeds_it_alone(layout: Layout) -> None:
    long = [replace(group, prompt_tokens=[2] * 10 + [3 + i] * 8) for i, group in enumerate(random_groups(6, 4))]
    for packs in packs_of(long, layout, tokens=80):
        assert all(one.input_ids.numel() <= 80 for one in packs)
    for budget in (10, 40):
        for packs in packs_of(random_groups(6, 4), layout, tokens=budget):
            assert all(one.input_ids.numel() <= budget or len(one.rollouts) == 1 for one in packs)
            assert budget == 10 or any(len(one.rollouts) > 1 for one in packs)


def test_groups_stay_whole_and_are_spread_over_the_mini_batches(layout: Layout) -> None:
    mini_batches = packs_of(random_groups(5, 4), layout, mini_batches=3)
    members = [{g for one in packs for g, _ in one.rollouts} for packs in mini_batches]
    assert members == [{0, 3}, {1, 4}, {2}]


def test_a_short_batch_leaves_the_last_mini_batches_empty(layout: Layout) -> None:
    mini_batches = packs_of(random_groups(2, 4), layout, mini_batches=4)
    assert [bool(packs) for packs in mini_batches] == [True, True, False, False]


def test_truncated_responses_can_be_masked_out_of_the_loss(layout: Layout) -> None:
    groups = random_groups(4, 4, longest=3)
    for packs in packs_of(groups, layout, mask_truncated=True):
        for one in packs:
            for (g, m), trained in zip(one.rollouts, trained_tokens(one), strict=True):
                response = groups[g].responses[m]
                assert trained == ([] if response.truncated else response.tokens)
    assert any(response.truncated for group in groups for response in group.responses)
