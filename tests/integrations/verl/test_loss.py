import json

import pytest
import torch

pytest.importorskip("verl", reason="verl is not installed here; make test-verl has it")

from itertools import chain

from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.metric import Metric, reduce_metrics
from verl.utils.py_functional import append_to_dict, rename_dict

from fipo.integrations.verl.credit import CreditWriter
from fipo.integrations.verl.loss import STEP_KEY, WholeLoss
from fipo.integrations.verl.metrics import take, values_of
from fipo.objective import LossInputs, merge_metrics, metric_values, policy_loss

PROMPT = 2


def nested(rows):
    return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)


def micro_batch(golden, rows, *, ranks=1, step=3):
    """Some rows of a golden vector as verl's engine hands them to the loss: nested, log-probs one token early."""
    call = golden.call
    log_prob = call["log_prob"][rows]
    width = log_prob.shape[1]
    padded = torch.nn.functional.pad(log_prob, (PROMPT - 1, 1))
    fields = {
        "prompts": nested(torch.full((PROMPT,), 5) for _ in rows),
        "responses": nested(torch.arange(width) + 100 * int(row) for row in rows),
        "response_mask": nested(call["response_mask"][rows].long()),
        "old_log_probs": nested(call["old_log_prob"][rows]),
        "advantages": nested(call["advantages"][rows]),
        "rollout_log_probs": nested(call["old_log_prob"][rows] - 0.25 * rows[:, None]),
    }
    data = TensorDict(fields, batch_size=[len(rows)])
    mask = call["response_mask"]
    tu.assign_non_tensor(
        data,
        dp_size=ranks,
        batch_num_tokens=int(mask.sum()),
        global_batch_size=len(mask),
        max_response_len=width,
        **{STEP_KEY: step},
    )
    return {"log_probs": nested(padded)}, data


def whole(golden, config):
    inputs = LossInputs(
        logprobs=golden.log_prob.detach(),
        old_logprobs=golden.call["old_log_prob"],
        advantages=golden.call["advantages"],
        loss_mask=golden.call["response_mask"],
    )
    return policy_loss(inputs, config.policy_loss.algorithm().config)


def through_verl(steps):
    """What verl's worker and its driver make of metrics[mini-batch][rank][micro-batch], by their own functions."""
    of_the_step = {}
    for ranks in steps:
        gathered = {}
        for micro_batches in ranks:
            of_the_rank = {}
            for metrics in micro_batches:
                append_to_dict(of_the_rank, metrics)
            for key, value in of_the_rank.items():
                gathered.setdefault(key, []).append(value)
        for key, value in gathered.items():
            gathered[key] = (
                Metric.aggregate_dp(value) if isinstance(value[0], Metric) else list(chain.from_iterable(value))
            )
        append_to_dict(of_the_step, gathered)
    metrics = reduce_metrics(rename_dict(of_the_step, "actor/"))
    return metrics | values_of(take(metrics))


@pytest.mark.parametrize("name", ["dropped_sequences", "qwen7b_spikes"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_metrics_of_a_step_that_was_cut_are_those_of_the_whole(name, ranks, vector, actor_config):
    golden = vector(name)
    config = actor_config(golden.options, **golden.actor)
    pieces = torch.arange(len(golden.log_prob)).split(2)
    if len(pieces) % ranks:
        pytest.skip(f"{len(pieces)} micro-batches on {ranks} ranks")
    workers = [WholeLoss(config) for _ in range(ranks)]
    parts = [
        [worker(*micro_batch(golden, rows, ranks=ranks)) for rows in pieces[rank::ranks]]
        for rank, worker in enumerate(workers)
    ]
    loss = sum(loss.item() for rank in parts for loss, _ in rank) / ranks
    got = through_verl([[[metrics for _, metrics in rank] for rank in parts]])
    out = whole(golden, config)
    share = int(out.kept_tokens) / int(out.loss_mask.sum())
    assert loss == pytest.approx(out.loss.item() * share)
    assert got["actor/fipo/kept_token_share"] == pytest.approx(share)
    expected = metric_values(out.metrics())
    expected.pop("policy/loss")  # verl has its own
    assert {key: got[f"actor/{key}"] for key in expected} == pytest.approx(expected, rel=1e-9, abs=1e-12)
    for statistic in ("influence_weight/mean", "influence_weight/std"):
        assert got[f"actor/fipo/mini_batch_0/{statistic}"] == pytest.approx(expected[f"fipo/{statistic}"], rel=1e-9)
    gap = (0.25 * torch.arange(len(golden.log_prob))[:, None]).expand_as(out.loss_mask)[out.loss_mask]
    assert got["actor/rollout/logprob_gap/mean"] == pytest.approx(gap.mean().item())
    assert got["actor/rollout/logprob_gap/max"] == pytest.approx(gap.max().item())


def test_metrics_of_two_mini_batches_are_over_the_tokens_of_both_and_the_weights_of_each_are_there(
    vector, actor_config
):
    golden = vector("qwen7b_spikes")
    config = actor_config(golden.options, **golden.actor)
    worker = WholeLoss(config)
    rows = torch.arange(len(golden.log_prob))
    once = worker(*micro_batch(golden, rows))[1]
    again = [worker(*micro_batch(golden, piece))[1] for piece in rows.split(3)]  # as in a second epoch
    got = through_verl([[[once]], [again]])
    expected = metric_values(merge_metrics([whole(golden, config).metrics()] * 2))
    expected.pop("policy/loss")
    assert {key: got[f"actor/{key}"] for key in expected} == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert expected["policy/filtered_sequences"] > 0
    for i in range(2):
        assert got[f"actor/fipo/mini_batch_{i}/influence_weight/std"] == pytest.approx(
            expected["fipo/influence_weight/std"], rel=1e-9
        )


def test_the_exact_denominator_gives_objective_mds_loss_and_refuses_micro_batches(vector, actor_config):
    golden = vector("dropped_sequences")
    config = actor_config({**golden.options, "denominator": "kept"}, **golden.actor)
    rows = torch.arange(len(golden.log_prob))
    loss, _ = WholeLoss(config)(*micro_batch(golden, rows))
    loss.backward()
    assert loss.item() == pytest.approx(golden.metrics["loss"], rel=1e-8)
    torch.testing.assert_close(golden.log_prob.grad, golden.gradient, rtol=1e-6, atol=1e-12)
    with pytest.raises(ValueError, match="needs one micro-batch per mini-batch"):
        WholeLoss(config)(*micro_batch(golden, rows[:3]))


def test_credit_of_the_first_sequences_of_each_mini_batch_is_written(tmp_path, vector, actor_config):
    class Tokenizer:
        def decode(self, tokens):
            return " ".join(map(str, tokens))

    golden = vector("mask_with_holes")
    config = actor_config(golden.options, **golden.actor)
    worker = WholeLoss(config, CreditWriter(str(tmp_path), sequences=3, tokenizer=Tokenizer()))
    for _ in range(2):  # the same sequences again, as in a second epoch
        for rows in torch.arange(len(golden.log_prob)).split(2):
            worker(*micro_batch(golden, rows))
    lines = [json.loads(line) for line in (tmp_path / "step_000003.jsonl").read_text().splitlines()]
    assert [line["mini_batch"] for line in lines] == [0, 0, 0, 1, 1, 1]
    out = whole(golden, config)
    mask = out.loss_mask[1]
    assert lines[1]["prompt"] == "5 5"
    assert lines[1]["tokens"] == [str(100 + i) for i in range(len(mask)) if mask[i]]
    for key, tensor in (
        ("log_ratio", out.log_ratio),
        ("future_kl", out.future_kl),
        ("influence_weight", out.influence_weights),
    ):
        assert lines[1][key] == pytest.approx(tensor[1][mask].tolist(), rel=1e-5)
    worker(*micro_batch(golden, torch.arange(2), step=4))
    assert (tmp_path / "step_000004.jsonl").exists()


def test_a_worker_checks_itself_before_its_first_loss(monkeypatch):
    from verl.trainer.ppo import core_algos

    from fipo.integrations.verl.compat import VerlMismatch
    from fipo.integrations.verl.loss import WorkerLoss

    monkeypatch.delitem(core_algos.POLICY_LOSS_REGISTRY, "future_kl")
    with pytest.raises(VerlMismatch, match="verl did not load the plugin"):
        WorkerLoss({}, {})(model_output=None, data=None)


def test_a_whole_loss_that_never_asks_for_ours_is_noticed(monkeypatch, vector, actor_config):
    from verl.workers.utils import losses

    from fipo.integrations.verl.compat import VerlMismatch

    monkeypatch.setattr(losses, "ppo_loss", lambda config, model_output, data, dp_group: (torch.zeros(()), {}))
    with pytest.raises(VerlMismatch, match="did not call the policy loss 'future_kl'"):
        WholeLoss(actor_config())({}, {})
