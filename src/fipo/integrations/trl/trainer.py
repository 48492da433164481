"""`FIPOTrainer`: TRL's GRPOTrainer with the objective of `fipo.objective` and DAPO's dynamic sampling.

What it takes from TRL: generation, rewards, the data path, the training loop. What it replaces: the loss and its
denominator, the advantages, when old log-probs are computed, the metrics of the loss. See docs/integrations.md.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor
from trl import GRPOTrainer

from fipo.integrations.trl.config import FIPOTrainingConfig
from fipo.integrations.trl.groups import Row, batch_of, contrast, further_prompts, rows_of, share_of
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
AVERAGED = ("NO", "MULTI_CPU", "MULTI_GPU", "FSDP")  # ways to distribute that average gradients and leave them to us


class FIPOTrainer(GRPOTrainer):
    """`GRPOTrainer` with a `FIPOTrainingConfig`; every other argument is GRPOTrainer's own.

    Raises TypeError for another config, ValueError for a model or launcher under which the gradient would be wrong.
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
        self._generating = False  # inside TRL's generation: its own pass for old log-probs is not wanted
        self._global_rewards = torch.empty(0, 0)  # [rows of all processes, reward functions] of the last generation
        self._parts: list[tuple[dict[str, Metric], int]] = []  # metrics and kept tokens of this mini-batch's parts
        self._merged: dict[str, Metric] = {}  # since the last log
        self._check()

    def _check(self) -> None:
        kind = self.accelerator.distributed_type.name
        if kind not in AVERAGED:
            raise ValueError(
                f"the launcher must be one of {', '.join(AVERAGED)}, got {kind}: gradients are divided once"
            )
        if self.args.optim in ("lomo", "adalomo"):
            raise ValueError(f"optim must not update during the backward pass, got {self.args.optim}")
        if self.aux_loss_enabled:
            raise ValueError("router_aux_loss_coef must be 0: the objective has no term for the router")
        if self.args.dynamic_sampling:
            self._accuracy_column()
            if not isinstance(self.train_dataset, Dataset):
                kind = type(self.train_dataset).__name__
                raise ValueError(f"dynamic_sampling must be off unless train_dataset is a Dataset, got {kind}")

    def _accuracy_column(self) -> int:
        """Which reward function says whether an answer is correct."""
        name, names = self.args.accuracy_reward, self.reward_func_names
        if name is None and names:
            return 0
        if name not in names:
            raise ValueError(f"accuracy_reward must be one of {', '.join(names) or 'no names'}, got {name!r}")
        return names.index(name)

    # Generation

    def _calculate_rewards(self, *positional: Any, **named: Any) -> Tensor:
        self._global_rewards = super()._calculate_rewards(*positional, **named)
        return self._global_rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if not self.model.training:
            return self._scored(inputs)
        if self.args.dynamic_sampling:
            return self._mixed_groups(inputs)
        return self._scored(inputs)

    def _scored(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """One generation batch with our advantages and without TRL's old log-probs."""
        self._generating = True
        try:
            batch = super()._generate_and_score_completions(inputs)
        finally:
            self._generating = False
        batch.pop("old_per_token_logps", None)
        if self.model.training:
            size, rank = len(inputs), self.accelerator.process_index
            advantages = self._advantages()[rank * size : (rank + 1) * size]
            batch["advantages"] = advantages.to(batch["advantages"].device)
        return batch

    def _advantages(self) -> Tensor:
        """[rows of all processes]; 0 for a group in which an answer has no reward at all."""
        rewards = (self._global_rewards * self.reward_weights.to(self._global_rewards.device)).nansum(dim=1)
        rewards[self._global_rewards.isnan().all(dim=1)] = torch.nan
        groups = rewards.view(-1, self.num_generations)
        return group_advantages(groups, scale_by_std=self.algorithm.scale_by_std).nan_to_num(0.0).flatten()

    def _mixed_groups(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch of groups in which success varies, sampled until it is full; the surplus is discarded."""
        accelerator, group = self.accelerator, self.num_generations
        wanted = self.args.generation_batch_size // group
        kept: list[Row] = []
        counts = dict.fromkeys(("generated", "all_correct", "all_wrong", "generation_batches"), 0)
        for rows in self._generation_batches(inputs, wanted):
            batch = self._scored(rows)
            found = contrast(self._global_rewards[:, self._accuracy_column()], group)
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

    def _scores(self, model: Any, inputs: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """(log-probs, entropies, loss mask) of a micro-batch's completions, [B, T] each."""
        completion = inputs["completion_ids"]
        logprobs, entropies, _ = self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], completion], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            completion.size(1),
            compute_entropy=True,
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
        micro_batch["old_per_token_logps"] = logprobs.detach()
        entropy = torch.where(loss_mask, entropies.detach(), 0.0).sum()
        self._parts.append(({"policy/entropy": Mean(float(entropy), float(loss_mask.sum()))}, 0))

    # The update

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        training = self.model.training
        logprobs, entropies, loss_mask = self._scores(model, inputs)
        if training and "old_per_token_logps" not in inputs:
            self._keep_old(inputs, logprobs, entropies, loss_mask)
        out = policy_loss(
            LossInputs(
                logprobs=logprobs,
                old_logprobs=inputs.get("old_per_token_logps", logprobs.detach()),
                advantages=inputs["advantages"],
                loss_mask=loss_mask,
            ),
            self.algorithm.config,
            aggregation=self.algorithm.aggregation,
            denominator=1.0 if training else None,
            token_divisor=float(self.max_completion_length)
            if self.algorithm.aggregation == "seq-mean-token-sum-norm"
            else None,
        )
        if not training:
            return out.loss
        self._parts.append((out.metrics(), int(out.kept_tokens)))
        return out.loss * self.accelerator.num_processes  # gradients are averaged over processes, and a sum is meant

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
        finite = math.isfinite(loss.total)
        if finite and sum(kept_tokens):
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad /= loss.count
        else:
            model.zero_grad()  # without gradients the optimizer leaves weights and moments alone
        index = (self._step - 1) // self.args.gradient_accumulation_steps
        index %= self.args.mini_batches * self.num_iterations
        own: dict[str, Metric] = {"update/skipped": Sum(float(not finite))}
        for name in ("influence_weight/mean", "influence_weight/std"):
            own[f"fipo/mini_batch_{index}/{name}"] = merged[f"fipo/{name}"]
        self._merged = merge_metrics([self._merged, merged, own])
        return loss.value

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.model.training:
            logs.update(metric_values(self._merged))
            self._merged = {}
        super().log(logs, start_time)
