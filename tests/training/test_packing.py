import pytest
import torch
from tests.training.helpers import random_groups

from fipo.rollout.groups import Group
from fipo.training.packing import Layout, Pack, pack

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
    if one.lengths is None:
        return one.input_ids.tolist()
    return [list(ids) for ids in one.input_ids[0].split(one.lengths)]


def trained_tokens(one: Pack) -> list[list[int]]:
    """Of each sequence: by the mask, by `tokens`, and by the place after each of `before`."""
    counts = one.loss_mask.sum(1).tolist()
    assert torch.equal(one.input_ids.flatten()[one.before + 1], one.tokens)
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


def test_packed_sequences_stand_without_padding() -> None:
    groups = random_groups(5, 4)
    tokens = sum(len(g.prompt_tokens) + len(r.tokens) for g in groups for r in g.responses)
    assert sum(one.input_ids.numel() for packs in packs_of(groups, "packed") for one in packs) == tokens


def test_packed_micro_batches_hold_about_equally_many_tokens() -> None:
    [packs] = packs_of(random_groups(12, 4), "packed", mini_batches=1, tokens=150)
    sizes = [one.input_ids.numel() for one in packs]
    assert len(sizes) > 2
    assert max(sizes) - min(sizes) <= 18  # the longest sequence


def test_a_pack_holds_at_most_the_token_budget_unless_one_sequence_exceeds_it_alone(layout: Layout) -> None:
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
