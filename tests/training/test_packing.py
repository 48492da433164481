import pytest
import torch
from tests.training.helpers import random_groups

from fipo.rollout.groups import Group
from fipo.training.packing import Pack, pack

CPU = torch.device("cpu")


def packed(groups: list[Group], *, mini_batches: int = 2, tokens: int = 60, mask_truncated: bool = False):
    advantages = torch.arange(len(groups) * 4.0).reshape(len(groups), 4)
    return pack(
        groups,
        advantages,
        mini_batches=mini_batches,
        tokens_per_micro_batch=tokens,
        mask_truncated=mask_truncated,
        device=CPU,
    )


def rows(pack_: Pack):
    for i, rollout in enumerate(pack_.rollouts):
        yield rollout, pack_.input_ids[i], pack_.scored_ids[i][pack_.loss_mask[i]].tolist(), pack_.advantages[i]


@pytest.mark.parametrize("tokens", [1, 60, 10_000])
def test_every_response_is_packed_once_with_its_own_tokens_and_advantage(tokens: int) -> None:
    groups = random_groups(5, 4)
    seen = {}
    for packs in packed(groups, tokens=tokens):
        for one in packs:
            for (g, m), input_ids, trained, advantage in rows(one):
                prompt, response = groups[g].prompt_tokens, groups[g].responses[m].tokens
                assert input_ids[: len(prompt) + len(response)].tolist() == prompt + response
                assert trained == response
                assert float(advantage) == 4 * g + m
                seen[g, m] = seen.get((g, m), 0) + 1
    assert seen == {(g, m): 1 for g in range(5) for m in range(4)}


def test_a_pack_holds_at_most_the_token_budget_unless_one_row_exceeds_it_alone() -> None:
    for packs in packed(random_groups(6, 4), tokens=40):
        assert all(one.input_ids.numel() <= 40 or len(one.input_ids) == 1 for one in packs)
        assert any(len(one.input_ids) > 1 for one in packs)


def test_groups_stay_whole_and_are_spread_over_the_mini_batches() -> None:
    mini_batches = packed(random_groups(5, 4), mini_batches=3)
    members = [{g for one in packs for g, _ in one.rollouts} for packs in mini_batches]
    assert members == [{0, 3}, {1, 4}, {2}]


def test_a_short_batch_leaves_the_last_mini_batches_empty() -> None:
    mini_batches = packed(random_groups(2, 4), mini_batches=4)
    assert [bool(packs) for packs in mini_batches] == [True, True, False, False]


def test_truncated_responses_can_be_masked_out_of_the_loss() -> None:
    groups = random_groups(4, 4, longest=3)
    for packs in packed(groups, mask_truncated=True):
        for one in packs:
            for (g, m), _, trained, _ in rows(one):
                response = groups[g].responses[m]
                assert trained == ([] if response.truncated else response.tokens)
    assert any(response.truncated for group in groups for response in group.responses)
