"""`FIPOTrainer`: TRL's GRPOTrainer with the objective of `fipo.objective` and DAPO's dynamic sampling.

What it takes from TRL: generation, rewards, the data path, the training loop. What it replaces: the loss and its
denominator, the advantages, when old log-probs are computed, the metrics of the loss. See docs/integrations.md.
"""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from trl import GRPOTrainer
from trl.trainer.utils import use_adapter

from fipo.integrations.shared import note_slower_objective
from fipo.integrations.trl.checks import accuracy_column, check_host
from fipo.integrations.trl.config import FIPOTrainingConfig
from fipo.integrations.trl.groups import UnpaddedRow, batch_of, contrast, further_prompts, rows_of, share_of
from fipo.integrations.trl.rewards import GraderReward
from fipo.integrations.trl.said_once import SaidOnce
from fipo.integrations.trl.sampler import compared_with_sampler
from fipo.integrations.trl.scaling import leave_out, loss_divisor
from fipo.objective import LossInputs, Mean, Metric, Sum, group_advantages, merge_metrics, metric_values, policy_loss

# What TRL's forward pass takes besides tokens.
MODALITIES = (
    "pixel_values",
    "image_grid_thw",
    "num_images",
    "pixel_attention_mask",
    "spatial_shapes",
    "num_tiles",
    "image_sizes",
    "token_type_ids",
    "mm_token_type_ids",
    "image_position_ids",
)


class FIPOTrainer(GRPOTrainer):
    """`GRPOTrainer` with a `FIPOTrainingConfig`; every other argument is GRPOTrainer's own.

    Raises TypeError for another config, ValueError for a model or launcher under which the gradient would be wrong.

    >>> FIPOTrainer("a/model", args=None)
    Traceback (most recent call last):
    TypeError: args must be a FIPOTrainingConfig, got NoneType
    """

    _name = "FIPO"
    _tag_names = ["trl", "grpo", "fipo"]  # noqa: RUF012 as TRL writes it
    _paper = {  # noqa: RUF012
        "title": "FIPO: Eliciting Deep Reasoning with Future-KL Influenced Policy Optimization",
        "id": "2603.19835",
    }

    def __init__(
        self, model: Any, reward_funcs: Any = None, args: FIPOTrainingConfig | None = None, *others: Any, **named: Any
    ) -> None:
        if not isinstance(args, FIPOTrainingConfig):
            raise TypeError(f"args must be a FIPOTrainingConfig, got {type(args).__name__}")
        super().__init__(model, reward_funcs, args, *others, **named)
        self.algorithm = args.algorithm()
        self.vllm_importance_sampling_correction = False  # TRL's; ours weighs by the log-probs of the micro-batches
        self._generating = False  # inside TRL's generation: its own pass for old log-probs is not wanted
        self._global_rewards = torch.empty(0, 0)  # [rows of all processes, reward functions] of the last generation
        self._loss_divisor = loss_divisor(self)
        self._parts: list[tuple[dict[str, Metric], int]] = []  # metrics and kept tokens of this mini-batch's parts
        self._merged: dict[str, Metric] = {}  # since the last log
        check_host(self)
        self._once = SaidOnce(speaks=self.accelerator.is_main_process)
        note_slower_objective(speaks=self.accelerator.is_main_process)

    # Generation

    def _calculate_rewards(self, *positional: Any, **named: Any) -> Tensor:
        self._global_rewards = super()._calculate_rewards(*positional, **named)
        return self._global_rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if not self.model.training:
            return self._scored(inputs)
        graders = [function for function in self.reward_funcs if isinstance(function, GraderReward)]
        before = sum(grader.failed for grader in graders)
        batch = self._mixed_groups(inputs) if self.args.dynamic_sampling else self._scored(inputs)
        if graders:
            failed = gather_object([sum(grader.failed for grader in graders) - before])
            self._metrics["train"]["grade/failed"].append(sum(failed))
        return batch

    def _scored(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """One generation batch with our advantages and without TRL's old log-probs."""
        self._generating = True
        try:
            batch = super()._generate_and_score_completions(inputs)
        finally:
            self._generating = False
        for name in ("old_per_token_logps", "ref_per_token_logps"):
            batch.pop(name, None)
        if self.model.training:
            size, rank = len(inputs), self.accelerator.process_index
            advantages = self._advantages()[rank * size : (rank + 1) * size]
            batch["advantages"] = advantages.to(batch["advantages"].device)
        return batch

    def _advantages(self) -> Tensor:
        """[rows of all processes]; 0 for a group with an answer that has no reward at all, or whose grade failed where
        that drops groups."""
        rewards = (self._global_rewards * self.reward_weights.to(self._global_rewards.device)).nansum(dim=1)
        missing = self._global_rewards.isnan()
        graders = [isinstance(function, GraderReward) for function in self.reward_funcs]
        rewards[missing.all(dim=1) | missing[:, graders].any(dim=1)] = torch.nan
        groups = rewards.view(-1, self.num_generations)
        return group_advantages(groups, scale_by_std=self.algorithm.scale_by_std).nan_to_num(0.0).flatten()

    def _mixed_groups(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch of groups in which success varies, sampled until it is full; the surplus is discarded."""
        accelerator, group = self.accelerator, self.num_generations
        wanted = self.args.generation_batch_size // group
        kept: list[UnpaddedRow] = []
        counts = dict.fromkeys(("generated", "all_correct", "all_wrong", "generation_batches"), 0)
        for rows in self._generation_batches(inputs, wanted):
            batch = self._scored(rows)
            found = contrast(self._accuracies(), group)
            first = accelerator.process_index * len(rows)
            mine = [i for i in range(len(rows)) if found.mixed[(first + i) // group]]
            kept += gather_object(rows_of(batch, mine))  # in the order of the processes, so groups stay together
            counts["generated"] += len(found.mixed)
            counts["all_correct"] += found.all_correct
            counts["all_wrong"] += found.all_wrong
            counts["generation_batches"] += 1
            if len(kept) >= wanted * group:
                break
        kept = kept[: wanted * group]
        for name, count in {**counts, "kept": len(kept) // group}.items():
            self._metrics["train"][f"groups/{name}"].append(count)
        if len(kept) < wanted * group and self.args.on_short_batch == "stop":
            raise RuntimeError(
                f"step {self.state.global_step}: {wanted} groups must fill within {self.args.max_generation_batches} "
                f'generation batches, got {len(kept) // group} (on_short_batch = "stop")'
            )
        share = share_of(
            kept, accelerator.process_index, accelerator.num_processes, len(inputs), rows_of(batch, [0])[0]
        )
        return batch_of(
            share, pad_token=self._tokenizer.pad_token_id, multiple=self.pad_to_multiple_of, device=accelerator.device
        )

    def _accuracies(self) -> Tensor:
        """[rows of all processes]; the 0 of a failed grade is no success, and NaN, which drops the group, stays."""
        column = accuracy_column(self)
        accuracies = self._global_rewards[:, column]
        if not isinstance(self.reward_funcs[column], GraderReward):
            self._once.accuracies(accuracies[~accuracies.isnan()].tolist(), self.reward_func_names[column])
            return accuracies
        return torch.where(accuracies.isnan(), accuracies, (accuracies > 0).float())

    def _generation_batches(self, inputs: list[dict[str, Any]], prompts: int) -> Iterator[list[dict[str, Any]]]:
        """This process's rows: TRL's batch, then more of the dataset, in an order that seed and step decide."""
        yield inputs
        size, rank = len(inputs), self.accelerator.process_index
        more = further_prompts(
            lambda index: repr(self.train_dataset[index]["prompt"]),
            len(self.train_dataset),
            seen=set(gather_object([repr(row["prompt"]) for row in inputs])),
            wanted=prompts,
            batches=self.args.max_generation_batches - 1,
            seed=self.args.seed * 1_000_003 + self.state.global_step,
        )
        for indices in more:
            rows = [index for index in indices for _ in range(self.num_generations)]
            yield [self.train_dataset[index] for index in rows[rank * size : (rank + 1) * size]]

    # Log-probs

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, **named: Any
    ) -> tuple[Tensor, Any, Any]:
        if self._generating:
            return torch.zeros(len(input_ids), logits_to_keep, device=input_ids.device), None, None
        return super()._get_per_token_logps_and_entropies(model, input_ids, attention_mask, logits_to_keep, **named)

    def _scores(self, model: Any, inputs: dict[str, Any], *, entropy: bool = True) -> tuple[Tensor, Any, Tensor]:
        """(log-probs, entropies if wanted, loss mask) of a micro-batch's completions, [B, T] each."""
        completion = inputs["completion_ids"]
        logprobs, entropies, _ = self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], completion], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            completion.size(1),
            compute_entropy=entropy,
            **{name: inputs.get(name) for name in MODALITIES},
        )
        loss_mask = inputs["completion_mask"] * inputs.get("tool_mask", 1)
        return logprobs, entropies, loss_mask.bool()

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if self.model.training and self._buffered_inputs is not before:
            # Of the very micro-batches that the updates will see, so that the same kernels see the same tensors.
            # The first mini-batch needs no pass: its own log-probs are the old ones, as no weight has moved by then.
            for micro_batch in self._buffered_inputs[self.args.gradient_accumulation_steps :]:
                with torch.no_grad():
                    self._keep_old(micro_batch, *self._scores(self.model, micro_batch))
        return inputs

    def _keep_old(self, micro_batch: dict[str, Any], logprobs: Tensor, entropies: Tensor, loss_mask: Tensor) -> None:
        micro_batch["old_per_token_logps"] = old = logprobs.detach()
        entropy = torch.where(loss_mask, entropies.detach(), 0.0).sum()
        metrics: dict[str, Metric] = {"policy/entropy": Mean(float(entropy), float(loss_mask.sum()))}
        weights, compared = compared_with_sampler(
            old, micro_batch.get("sampling_per_token_logps"), loss_mask, cap=self.algorithm.importance_weight_cap
        )
        micro_batch["importance_sampling_ratio"] = weights
        self._parts.append((metrics | compared, 0))

    def _reference_logprobs(self, micro_batch: dict[str, Any]) -> Tensor | None:
        """[B, T] under the frozen reference, where there is a KL penalty. Computed once for each micro-batch."""
        if self.beta and "ref_per_token_logps" not in micro_batch:
            model, adapter = self.ref_model, nullcontext()
            if model is None:  # the policy without its adapter, or with the one that it began with
                model = self.accelerator.unwrap_model(self.model)
                adapter = use_adapter(model, adapter_name="ref" if "ref" in model.peft_config else None)
            with torch.no_grad(), adapter:
                micro_batch["ref_per_token_logps"], _, _ = self._scores(model, micro_batch, entropy=False)
        return micro_batch.get("ref_per_token_logps")

    # The update

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        training = self.model.training
        reference = self._reference_logprobs(inputs)
        logprobs, entropies, loss_mask = self._scores(model, inputs)
        if training and "old_per_token_logps" not in inputs:
            self._keep_old(inputs, logprobs, entropies, loss_mask)
        out = policy_loss(
            LossInputs(
                logprobs=logprobs,
                old_logprobs=inputs.get("old_per_token_logps", logprobs.detach()),
                advantages=inputs["advantages"],
                loss_mask=loss_mask,
                importance_weights=inputs.get("importance_sampling_ratio"),
                reference_logprobs=reference,
            ),
            self.algorithm,
            denominator=1.0 if training else None,
            longest=self.max_completion_length,
        )
        if not training:
            return out.loss
        self._parts.append((out.metrics(), int(out.kept_tokens)))
        # Gradients are averaged over processes, and a sum is meant.
        return out.loss * (self.accelerator.num_processes / self._loss_divisor)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any) -> Tensor:
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not self.accelerator.sync_gradients:
            return torch.zeros_like(loss)  # what is logged is the mini-batch's loss, known with its last part
        return torch.full_like(loss, self._finish_mini_batch(model))

    def _finish_mini_batch(self, model: Any) -> float:
        """Divide the summed gradient once by the weight of all micro-batches and processes. Returns the loss."""
        parts, kept_tokens = zip(*gather_object(self._parts), strict=True)
        self._parts = []
        merged = merge_metrics(parts)
        loss = merged["policy/loss"]
        assert isinstance(loss, Mean)  # for mypy: total / weight
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        norms = gather_object([float(torch.nn.utils.get_total_norm(gradients))])
        finite = math.isfinite(loss.total) and all(math.isfinite(norm) for norm in norms)
        if finite and sum(kept_tokens):
            for gradient in gradients:
                gradient /= loss.count / self._loss_divisor
        else:
            leave_out(model, self.accelerator.scaler)
        index = (self._step - 1) // self.args.gradient_accumulation_steps
        index %= self.args.mini_batches * self.num_iterations
        own: dict[str, Metric] = {"update/skipped": Sum(float(not finite))}
        for name in ("influence_weight/mean", "influence_weight/std"):
            own[f"fipo/mini_batch_{index}/{name}"] = merged[f"fipo/{name}"]
        self._merged = merge_metrics([self._merged, merged, own])
        self._look_at_weights(index, metric_values(merged)["fipo/influence_weight/std"])
        return loss.value

    def _look_at_weights(self, index: int, std: float) -> None:
        """index: of a mini-batch whose update is still to come."""
        count = self.args.mini_batches * self.num_iterations
        if index == count - 1 and self.algorithm.config.influence_bounds != (1.0, 1.0):
            rate, of = self.lr_scheduler.get_last_lr()[0], self.args.learning_rate
            self._once.weights(std, mini_batches=count, learning_rate=rate, of=of)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.model.training:
            logs.update(metric_values(self._merged))
            self._merged = {}
        super().log(logs, start_time)
