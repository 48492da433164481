"""One training step, top to bottom."""

from functools import partial

from torch import Tensor

from fipo.models.determinism import seed_global_generators
from fipo.objective import group_advantages
from fipo.rollout.groups import collect_groups
from fipo.seeding import derive_seed
from fipo.telemetry.clock import Clock
from fipo.training.passes.logprobs import old_scores
from fipo.training.passes.packing import pack
from fipo.training.passes.recompute import recomputing
from fipo.training.policy.schedule import learning_rate
from fipo.training.record import StepRecord
from fipo.training.reward import group_rewards
from fipo.training.rounding import rounding_probe
from fipo.training.trainer import Trainer
from fipo.training.update import update


class ShortBatch(Exception):
    """Dynamic sampling reached its cap before the batch was full."""


def train_step(trainer: Trainer, step: int, clock: Clock) -> StepRecord:
    """Step number `step`, from 1: the policy, the optimizer and the problem stream move on in place.

    Raises ShortBatch before any of them has moved but the stream, if the recipe says to stop at one.
    """
    recipe, algorithm, model = trainer.recipe, trainer.algorithm, trainer.model
    rollout = recipe.rollout
    seed_global_generators(recipe.run.seed, step)

    # Sample G responses to each problem, grade them, keep groups in which success varies, refill.
    batch = collect_groups(
        trainer.stream,
        trainer.roller,
        rollout,
        drop_failed=recipe.grading.on_failure == "drop_group",
        seed=derive_seed(recipe.run.seed, "rollout", step),
        clock=clock,
    )
    if len(batch.kept) < rollout.groups and rollout.on_short_batch == "stop":
        raise ShortBatch(
            f"step {step}: rollout.groups must fill within {rollout.max_generation_batches} generation batches, "
            f'got {len(batch.kept)} of {rollout.groups} (rollout.on_short_batch = "stop")'
        )

    rewards = group_rewards(batch.kept, rollout, recipe.reward)
    advantages = group_advantages(rewards, scale_by_std=algorithm.scale_by_std)

    # Packed once. The old log-probs of the first mini-batch are those that its own update computes, as the weights
    # have not moved by then; those of the others are computed before it.
    control = trainer.control
    mini_batches = pack(
        batch.kept,
        advantages,
        token_advantages=control.advantages(trainer, batch, advantages) if control and control.advantages else None,
        mini_batches=recipe.update.mini_batches,
        tokens_per_micro_batch=recipe.update.tokens_per_micro_batch,
        mask_truncated=recipe.reward.mask_truncated,
        layout=trainer.layout,
        device=model.device,
    )
    with clock.phase("old_logprobs"):
        old = [
            trainer.with_room(partial(old_scores, model, packs, rollout.temperature, trainer.beat))
            for packs in mini_batches[1:]
        ]
    reference: list[list[Tensor] | None] = [None] * len(mini_batches)
    if trainer.reference is not None:
        with clock.phase("reference"):
            reference = [
                trainer.with_room(partial(trainer.reference.logprobs, packs, rollout.temperature, trainer.beat))
                for packs in mini_batches
            ]

    rate = learning_rate(
        step,
        peak=recipe.update.learning_rate,
        warmup=recipe.update.warmup_steps,
        schedule=recipe.update.schedule,
        steps=recipe.run.steps,
        floor=recipe.update.schedule_floor,
    )
    for parameters in trainer.optimizer.param_groups:
        parameters["lr"] = rate
    probe = rounding_probe(trainer, step, mini_batches, clock)
    outcomes = []
    for i, (packs, scores, frozen) in enumerate(zip(mini_batches, [None, *old], reference, strict=True)):
        if probe is not None and i == probe.mini_batch:
            probe.look()
        with clock.phase("update"), recomputing(model, recipe.update.gradient_checkpointing):
            outcomes.append(update(trainer, packs, scores, frozen))
            trainer.beat(i + 1, len(mini_batches))

    trainer.optimizer.zero_grad()  # sampling needs the memory

    return StepRecord(
        step=step,
        batch=batch,
        rewards=rewards,
        advantages=advantages,
        outcomes=outcomes,
        rounding=probe.metrics(outcomes) if probe is not None else {},
        loss_scale=trainer.loss_scale.value if trainer.loss_scale else None,
        compute=trainer.compute,
        learning_rate=rate,
    )
