"""What a training step leaves behind: its metrics, and sampled rollouts with per-token credit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from fipo.data.made.relay import block_rates, true_advantages
from fipo.grading.outcomes import gives_numbers, grade_metrics, part_metrics
from fipo.objective import Algorithm, importance_metrics, merge_metrics, metric_values, token_credit
from fipo.rollout.groups import Group, GroupBatch
from fipo.telemetry.clock import Clock
from fipo.telemetry.rollouts import RolloutRecord
from fipo.training.drift import drift_metrics
from fipo.training.passes.packing import Pack
from fipo.training.policy.mfu import Compute
from fipo.training.recipe import Recipe
from fipo.training.reward import group_rewards
from fipo.training.update import TrainedPack, UpdateOutcome

QUANTILES = {"min": 0.0, "p25": 0.25, "p50": 0.5, "p75": 0.75, "max": 1.0}


@dataclass(frozen=True, kw_only=True)
class TrainedRollout:
    """Where one response stood when it was trained on."""

    group: int
    member: int
    mini_batch: int
    trained: TrainedPack
    row: int  # in it

    def tokens_of(self, per_token: Tensor) -> list[float]:
        """This response's values of a [B, K] tensor, its untrained tokens left out."""
        return per_token[self.row][self.trained.pack.loss_mask[self.row]].tolist()


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    step: int
    batch: GroupBatch
    rewards: Tensor  # [P, G] of the kept groups
    advantages: Tensor  # [P, G]
    outcomes: list[UpdateOutcome]  # one per mini-batch
    rounding: dict[str, float]  # its metrics, in a step that measured it
    loss_scale: float | None  # after the step, of a float16 policy
    compute: Compute
    learning_rate: float

    @property
    def skipped_updates(self) -> int:
        """Without those that a smaller loss scale may make."""
        return sum(outcome.skipped and not outcome.overflowed for outcome in self.outcomes)

    def metrics(self, recipe: Recipe, clock: Clock) -> dict[str, float]:
        """The step's line of metrics.jsonl; docs/metrics.md defines each key."""
        return {
            **_rollout_metrics(self.batch, recipe),
            "advantage/length_weighted_mean": self._length_weighted_advantage(),
            **self._policy_metrics(),
            **drift_metrics([one for outcome in self.outcomes[1:] if not outcome.skipped for one in outcome.packs]),
            **self.rounding,
            **self._sampler_gap(),
            **self._importance(recipe.objective.algorithm()),
            "update/learning_rate": self.learning_rate,
            "update/skipped": self.skipped_updates,
            **self._scaling(),
            **self._time_metrics(clock),
        }

    def rollouts(self, tokenizer: PreTrainedTokenizerBase, groups: int) -> list[RolloutRecord]:
        """The responses of `groups` kept groups, with the credit of each trained token.

        They are spread evenly over the mini-batches, the last one included, in which weights have moved the most.
        """
        mini_batch = {trained.group: trained.mini_batch for trained in self._trained()}
        recorded = spread(sorted(mini_batch, key=lambda group: (mini_batch[group], group)), groups)
        chosen = [trained for trained in self._trained() if trained.group in recorded]
        chosen.sort(key=lambda trained: (trained.group, trained.member))
        return [self._rollout(trained, tokenizer) for trained in chosen]

    def _trained(self) -> Iterator[TrainedRollout]:
        for i, outcome in enumerate(self.outcomes):
            for one in outcome.packs:
                for row, (group, member) in enumerate(one.pack.rollouts):
                    yield TrainedRollout(group=group, member=member, mini_batch=i, trained=one, row=row)

    def _rollout(self, trained: TrainedRollout, tokenizer: PreTrainedTokenizerBase) -> RolloutRecord:
        group = self.batch.kept[trained.group]
        response, grade = group.responses[trained.member], group.grades[trained.member]
        credit = token_credit(trained.trained.output, trained.row)
        record = RolloutRecord(
            step=self.step,
            problem=group.problem.id,
            prompt=str(tokenizer.decode(group.prompt_tokens)),
            response=group.texts[trained.member],
            tokens=[str(tokenizer.decode([token])) for token in response.tokens],
            truncated=response.truncated,
            expected=group.problem.answer,
            answer=grade.answer,
            outcome=grade.outcome,
            reason=grade.reason,
            reward=float(self.rewards[trained.group, trained.member]),
            advantage=float(self.advantages[trained.group, trained.member]),
            mini_batch=trained.mini_batch,
            left_out="skipped" if self.outcomes[trained.mini_batch].skipped else credit["left_out"],
            log_ratio=credit["log_ratio"],
            future_kl=credit["future_kl"],
            influence_weight=credit["influence_weight"],
            marks=credit["marks"],
        )
        if group.problem.source == "relay":
            record["true_advantage"] = self._true_advantage(group, trained.member)
        return record

    def _true_advantage(self, group: Group, member: int) -> list[float | None]:
        """The true advantage of each token of a relay, with the block rates of this step's responses; 0 at its end."""
        rates = block_rates((text, one.problem.answer) for one in self.batch.generated for text in one.texts)
        known = true_advantages(group.texts[member], group.problem.answer, rates)
        end = len(group.responses[member].tokens) - len(known)
        return [*(float(f"{value:.6g}") for value in known), *[0.0] * end]

    def _policy_metrics(self) -> dict[str, float]:
        """What the objective says of the updates that were made, and each update's weights, as the first's are 1."""
        by_mini_batch = {
            i: merge_metrics([one.output.metrics() for one in outcome.packs])
            for i, outcome in enumerate(self.outcomes)
            if outcome.packs and not outcome.skipped
        }
        if not by_mini_batch:
            return {}
        metrics = metric_values(merge_metrics(list(by_mini_batch.values())))
        packs = [one for outcome in self.outcomes for one in outcome.packs]
        tokens = sum(len(one.pack.tokens) for one in packs)
        entropy = sum(float(one.old.entropy.sum()) for one in packs if one.old.entropy is not None)
        metrics["policy/entropy"] = entropy / max(1, tokens)
        metrics["policy/grad_norm"] = fmean(self.outcomes[i].grad_norm for i in by_mini_batch)
        for i, merged in by_mini_batch.items():
            for statistic in ("influence_weight/mean", "influence_weight/std"):
                metrics[f"fipo/mini_batch_{i}/{statistic}"] = metric_values(merged)[f"fipo/{statistic}"]
        return metrics

    def _length_weighted_advantage(self) -> float:
        """sum of advantage x length / sum of lengths, over the responses of kept groups (FIPO, footnote 2)."""
        lengths = torch.tensor(
            [[float(len(response.tokens)) for response in group.responses] for group in self.batch.kept]
        ).reshape(self.advantages.shape)
        return float((self.advantages * lengths).sum() / lengths.sum().clamp(min=1))

    def _sampler_gap(self) -> dict[str, float]:
        """|rollout log-prob - trainer log-prob| over trained tokens: what the sampler's arithmetic differs by."""
        gaps = [
            (one.pack.rollout_logprobs - one.old.logprobs)[one.pack.loss_mask].double().abs()
            for outcome in self.outcomes
            for one in outcome.packs
        ]
        together = torch.cat(gaps) if gaps else torch.empty(0)
        if not len(together):
            return {}
        return {"rollout/logprob_gap/mean": float(together.mean()), "rollout/logprob_gap/max": float(together.max())}

    def _importance(self, algorithm: Algorithm) -> dict[str, float]:
        """What `update` did about the sampler's arithmetic; nothing where it did nothing."""
        parts = [
            importance_metrics(
                one.old.logprobs,
                one.pack.rollout_logprobs,
                one.pack.loss_mask,
                cap=algorithm.importance_weight_cap,
                band=algorithm.importance_mask,
                level=algorithm.importance_mask_level,
            )
            for outcome in self.outcomes
            for one in outcome.packs
        ]
        return metric_values(merge_metrics(parts))

    def _scaling(self) -> dict[str, float]:
        if self.loss_scale is None:
            return {}
        overflowed = sum(outcome.overflowed for outcome in self.outcomes)
        return {"update/loss_scale": self.loss_scale, "update/overflowed": overflowed}

    def _time_metrics(self, clock: Clock) -> dict[str, float]:
        """Seconds by phase; tokens per second of the phases and of the whole step; the share of the device's peak."""
        sampled = sum(len(response.tokens) for group in self.batch.generated for response in group.responses)
        updated, scored = self._packs(first=0), self._packs(first=1)
        tokens = {
            "generate": sampled,
            "old_logprobs": sum(sum(pack.lengths) for pack in scored),
            "update": sum(sum(pack.lengths) for pack in updated),
        }
        work = self.compute.training_flops(
            [part for pack in updated for part in pack.work], [part for pack in scored for part in pack.work]
        )
        seconds, elapsed = clock.seconds, clock.elapsed()
        training = seconds["old_logprobs"] + seconds["update"]
        return {
            **{f"time/{phase}": seconds[phase] for phase in seconds},
            **{f"time/tokens_per_second/{phase}": n / seconds[phase] for phase, n in tokens.items() if n},
            "time/answers_per_second/grade": sum(len(g.grades) for g in self.batch.generated) / seconds["grade"],
            "time/step": elapsed,
            "time/tokens_per_second": sampled / elapsed,
            "time/mfu": work / training / self.compute.peak,
        }

    def _packs(self, *, first: int) -> list[Pack]:
        """Those of the mini-batches from number `first` on."""
        return [one.pack for outcome in self.outcomes[first:] for one in outcome.packs]


def spread(items: Sequence[int], count: int) -> set[int]:
    """`count` of the items at even distances, the last one among them; all if there are no more."""
    chosen, last = min(count, len(items)), len(items) - 1
    return {items[last - i * last // max(1, chosen - 1)] for i in range(chosen)}


def _rollout_metrics(batch: GroupBatch, recipe: Recipe) -> dict[str, float]:
    """What the policy does, not what it is fed: of everything that was generated, the dropped groups included."""
    rewards = group_rewards(batch.generated, recipe.rollout, recipe.reward)
    responses = [response for group in batch.generated for response in group.responses]
    grades = [grade for group in batch.generated for grade in group.grades]
    lengths = torch.tensor([float(len(response.tokens)) for response in responses])
    constant = sum(not group.mixed for group in batch.generated)
    return {
        "reward/mean": float(rewards.mean()),
        "accuracy/mean": fmean(grade.correct for grade in grades),
        "response_length/mean": float(lengths.mean()),
        **{f"response_length/{name}": float(lengths.quantile(q)) for name, q in QUANTILES.items()},
        "response_length/truncated": fmean(response.truncated for response in responses),
        **grade_metrics(grades),
        **part_metrics(grades),
        "groups/generated": len(batch.generated),
        "groups/kept": len(batch.kept),
        "groups/all_correct": sum(all(g.correct for g in group.grades) for group in batch.generated),
        "groups/all_wrong": sum(not any(g.correct for g in group.grades) for group in batch.generated),
        "groups/generation_batches": batch.generation_batches,
        **({"groups/constant": constant} if gives_numbers(grades) else {}),
    }


def last_evaluation(lines: Sequence[dict[str, float]]) -> float | None:
    """How many seconds it took; None before the first one."""
    return next((line["time/eval"] for line in reversed(lines) if "time/eval" in line), None)


def failed_grades(metrics: dict[str, float]) -> int:
    """Timeouts and crashes of one step and its evaluation."""
    return int(metrics.get("grade/failed", 0) + metrics.get("eval/failed", 0))
