"""DAPO's dynamic sampling on TRL's data path."""

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl", reason="TRL is not installed here; make test-trl has an environment with it")

from tests.conftest import random_model
from tests.integrations.trl.helpers import Rollouts, correct, logged, make_trainer, random_rollouts

from fipo.integrations.trl import FIPOTrainer
from fipo.integrations.trl.groups import UnpaddedRow, batch_of, contrast, further_prompts, rows_of, share_of

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def trained_completions(trainer: FIPOTrainer) -> list[list[int]]:
    """What stands in the loss of the newest generation batch, response by response."""
    return sorted(
        ids[mask.bool()].tolist()
        for part in trainer._buffered_inputs
        for ids, mask in zip(part["completion_ids"], part["completion_mask"], strict=True)
        if mask.any()
    )


def responses_to(rollouts: Rollouts, *numbers: int) -> list[list[int]]:
    return sorted(response for number in numbers for response in list(rollouts.values())[number])


def two_groups(tmp_path: Path, rollouts: Rollouts, **options: Any) -> FIPOTrainer:
    """Generation batches of two groups of four, one mini-batch each."""
    return make_trainer(tmp_path, rollouts, **{"mini_batches": 2, "max_steps": 2, **options})


def test_constant_groups_are_replaced_from_further_generation_batches(tmp_path: Path) -> None:
    rollouts = random_rollouts(6, 4, constant=[0, 2, 3, 5])  # the first batch has 0 and 1
    trainer = two_groups(tmp_path, rollouts)
    trainer.train()

    assert trained_completions(trainer) == responses_to(rollouts, 1, 4)
    (log,) = [entry for entry in logged(trainer) if "groups/kept" in entry]
    assert log["groups/kept"] == 2
    assert log["groups/generation_batches"] >= 2
    assert log["groups/generated"] == 2 * log["groups/generation_batches"]
    assert log["groups/all_wrong"] >= 1 and log["groups/all_correct"] == 0


def test_a_full_first_batch_needs_no_other(tmp_path: Path) -> None:
    rollouts = random_rollouts(4, 4)
    trainer = two_groups(tmp_path, rollouts)
    trainer.train()
    assert trained_completions(trainer) == responses_to(rollouts, 0, 1)
    assert logged(trainer)[0]["groups/generation_batches"] == 1


def test_a_short_batch_trains_what_there_is_with_its_own_denominator(tmp_path: Path) -> None:
    rollouts = random_rollouts(2, 4, constant=[0])
    two_steps = {"mini_batches": 1, "num_iterations": 2, "max_steps": 2}
    short = make_trainer(tmp_path / "1", rollouts, gradient_accumulation_steps=2, max_generation_batches=1, **two_steps)
    short.train()
    alone = make_trainer(tmp_path / "2", dict(list(rollouts.items())[1:]), **two_steps)
    alone.train()

    assert trained_completions(short) == responses_to(rollouts, 1)
    assert logged(short)[0]["groups/kept"] == 1
    for name, parameter in short.model.named_parameters():
        torch.testing.assert_close(parameter, alone.model.get_parameter(name), rtol=1e-6, atol=1e-8)


def test_a_short_batch_can_stop_the_run(tmp_path: Path) -> None:
    trainer = two_groups(
        tmp_path, random_rollouts(4, 4, constant=[0, 1, 2, 3]), max_generation_batches=3, on_short_batch="stop"
    )
    with pytest.raises(RuntimeError, match="step 0: 2 groups must fill within 3 generation batches, got 0"):
        trainer.train()


def test_a_batch_without_contrast_leaves_the_weights_alone(tmp_path: Path) -> None:
    trainer = two_groups(tmp_path, random_rollouts(4, 4, constant=[0, 1, 2, 3]), max_generation_batches=2)
    trainer.train()
    start = random_model(scale=4.0).double()
    assert all(torch.equal(p, start.get_parameter(name)) for name, p in trainer.model.named_parameters())


def test_off_means_that_constant_groups_are_trained_on(tmp_path: Path) -> None:
    rollouts = random_rollouts(2, 4, constant=[0])
    trainer = two_groups(tmp_path, rollouts, dynamic_sampling=False)
    trainer.train()
    assert trained_completions(trainer) == responses_to(rollouts, 0, 1)


def length_penalty(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [-len(tokens) / 12 for tokens in completion_ids]


def test_accuracy_is_judged_before_the_penalty(tmp_path: Path) -> None:
    rollouts = random_rollouts(2, 4, constant=[0])  # its rewards differ by the penalty alone
    trainer = two_groups(tmp_path, rollouts, rewards=[correct, length_penalty], max_generation_batches=1)
    trainer.train()
    assert trained_completions(trainer) == responses_to(rollouts, 1)

    named = two_groups(
        tmp_path,
        rollouts,
        rewards=[length_penalty, correct],
        accuracy_reward="correct",
        max_generation_batches=1,
    )
    named.train()
    assert trained_completions(named) == responses_to(rollouts, 1)


def test_an_unknown_accuracy_reward_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="accuracy_reward must be one of correct, got 'accuracy'"):
        two_groups(tmp_path, random_rollouts(2, 4), accuracy_reward="accuracy")


def test_a_group_with_an_answer_that_nobody_could_judge_is_dropped() -> None:
    found = contrast(torch.tensor([1.0, -1.0, torch.nan, 1.0, 1.0, 1.0, 0.0, 0.0]), 2)
    assert found.mixed.tolist() == [True, False, False, False]
    assert (found.all_correct, found.all_wrong) == (1, 1)


def a_row(length: int, tool: bool = False) -> UnpaddedRow:
    tokens = torch.arange(2, 2 + length)
    ones = torch.ones_like(tokens)
    more = {"tool_mask": ones, "sampling_per_token_logps": -0.5 * tokens} if tool else {}
    return UnpaddedRow(prompt=tokens + 5, completion=tokens, mask=ones, more=more, advantage=length / 2)


@pytest.mark.parametrize("tool", [False, True])
def test_rows_survive_padding(tool: bool) -> None:
    rows = [a_row(3, tool), a_row(1, tool).blank(), a_row(5, tool)]
    batch = batch_of(rows, pad_token=0, multiple=None, device=torch.device("cpu"))
    again = rows_of(batch, [0, 1, 2])
    for before, after in zip(rows, again, strict=True):
        assert torch.equal(before.prompt, after.prompt)
        assert torch.equal(before.completion * before.mask, after.completion * after.mask)
        assert before.advantage == after.advantage
        assert before.more.keys() == after.more.keys()
        assert all(torch.equal(values, after.more[name]) for name, values in before.more.items())


def test_a_batch_with_images_is_refused() -> None:
    batch = {**batch_of([a_row(2)], pad_token=0, multiple=None, device=torch.device("cpu")), "pixel_values": None}
    with pytest.raises(ValueError, match="dynamic_sampling must be off for batches with pixel_values"):
        rows_of(batch, [0])


def test_processes_share_all_rows_and_fill_up_with_blanks() -> None:
    rows = [a_row(n) for n in range(1, 6)]
    shares = [share_of(rows, rank, 2, 4, a_row(9)) for rank in range(2)]
    assert [[row.advantage * 2 for row in share] for share in shares] == [[1, 3, 5, 0], [2, 4, 0, 0]]


def test_further_prompts_are_new_ones_until_the_data_is_used_up() -> None:
    def drawn(seed: int) -> list[list[int]]:
        return list(further_prompts(str, 10, seen={"3", "7"}, wanted=4, batches=3, seed=seed))

    first, second, third = drawn(1)
    assert sorted(first + second) == [0, 1, 2, 4, 5, 6, 8, 9]
    assert len(third) == 4
    assert drawn(1) == [first, second, third] != drawn(2)


def test_a_run_resumed_after_a_generation_batch_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    rollouts = random_rollouts(8, 4, constant=[0, 3, 5])
    whole = two_groups(tmp_path, rollouts, save_strategy="steps", save_steps=2, max_steps=4)
    whole.train()
    resumed = two_groups(tmp_path, rollouts, max_steps=4)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))

    assert trained_completions(resumed) == trained_completions(whole)
    for name, parameter in resumed.model.named_parameters():
        assert torch.equal(parameter, whole.model.get_parameter(name))
    assert "2603.19835" in (tmp_path / "README.md").read_text()
