"""Settings that cannot do what they say: each rule looks at a recipe alone and gives a finding or None.

What makes a recipe impossible is refused when it is read (a group of one, an overlong buffer as long as a response),
and what is strange about the objective's numbers is said by `Algorithm.notes`.
"""

from collections.abc import Callable

import torch

from fipo.data.sources import Published, sources_of
from fipo.doctor.findings import Finding
from fipo.grading.registry import GRADERS
from fipo.training.recipe import Recipe

Rule = Callable[[Recipe, torch.device], Finding | None]


def setting_findings(recipe: Recipe, device: torch.device) -> list[Finding]:
    """What the rules say of a recipe that runs on `device`."""
    notes = [Finding(level="note", keys=("objective",), text=note) for note in recipe.objective.algorithm().notes()]
    found = [rule(recipe, device) for rule in RULES]
    return [finding for finding in found if finding is not None] + notes


def weighs_tokens(recipe: Recipe) -> bool:
    """Whether the objective has influence weights that can differ from 1: whether it is FIPO."""
    return recipe.objective.algorithm().config.influence_bounds != (1.0, 1.0)


def one_mini_batch(recipe: Recipe, _: torch.device) -> Finding | None:
    if recipe.update.mini_batches > 1 or not weighs_tokens(recipe):
        return None
    return Finding(
        level="warning",
        keys=("update.mini_batches",),
        text="with 1 the weights have not moved when the log-ratios are taken, so all of these are 0 and every "
        "influence weight is exactly 1: this run is DAPO, not FIPO",
        advice='update.mini_batches = 4, or objective.preset = "dapo" if that is meant',
    )


def credit_under_lora(recipe: Recipe, _: torch.device) -> Finding | None:
    lora = recipe.model.lora
    if lora is None or not weighs_tokens(recipe):
        return None
    return Finding(
        level="warning",
        keys=("model.lora", "objective.preset"),
        text=f"the influence weights are read off log-prob shifts, and an update of rank {lora.rank} at LoRA's higher "
        "learning rates shifts many tokens together: no published result says that FIPO's bounds and half-life suit it",
        advice='a matched run with objective.preset = "dapo", and a look at fipo/influence_weight/* in its first steps',
    )


def truncated_sampling(recipe: Recipe, _: torch.device) -> Finding | None:
    rollout = recipe.rollout
    given = {"rollout.top_p": rollout.top_p} if rollout.top_p < 1 else {}
    given |= {"rollout.top_k": rollout.top_k} if rollout.top_k else {}
    if not given:
        return None
    return Finding(
        level="warning",
        keys=tuple(given),
        text=f"responses are drawn from the likeliest tokens ({_written(given)}) while log-probs and gradients are "
        "over all of them, so the policy that is improved is not the one that was sampled",
        advice="rollout.top_p = 1.0 and rollout.top_k = 0 in training; eval.top_p may stay below 1",
    )


def boxed_without_reader(recipe: Recipe, _: torch.device) -> Finding | None:
    sources = sources_of(recipe.data.train, "data.train") | sources_of(recipe.data.eval, "data.eval")
    boxed = [key for key, table in sources.items() if isinstance(table, Published) and table.template == "boxed"]
    grader = GRADERS.get(recipe.data.grader)
    if not boxed or grader is None or grader.reads_boxes:
        return None
    return Finding(
        level="warning",
        keys=(*(f"{key}.template" for key in boxed), "data.grader"),
        text=f'the template asks for \\boxed{{}}, and the "{grader.name}" grader does not look into it',
        advice='template = "dapo", or data.grader = "math"',
    )


def endless_warmup(recipe: Recipe, _: torch.device) -> Finding | None:
    warmup, steps = recipe.update.warmup_steps, recipe.run.steps
    if warmup <= steps:
        return None
    return Finding(
        level="warning",
        keys=("update.warmup_steps", "run.steps"),
        text=f"a warm-up of {warmup} steps does not end within {steps}: the learning rate reaches "
        f"{steps / warmup:.0%} of update.learning_rate",
        advice=f"update.warmup_steps = {max(1, steps // 10)}",
    )


def slow_half_precision(recipe: Recipe, device: torch.device) -> Finding | None:
    if device.type != "cpu" or recipe.model.dtype not in ("bfloat16", "float16"):
        return None
    return Finding(
        level="warning",
        keys=("model.dtype",),
        text=f"{recipe.model.dtype} on a CPU saves memory, and most CPUs compute more slowly in it than in float32",
        advice='model.dtype = "auto"',
    )


def tf32_without_cuda(recipe: Recipe, device: torch.device) -> Finding | None:
    if device.type != "cpu" or recipe.model.matmul != "tf32":
        return None
    return Finding(
        level="note",
        keys=("model.matmul",),
        text="TF32 is of CUDA: on a CPU products are in float32 as ever",
    )


def no_surplus(recipe: Recipe, _: torch.device) -> Finding | None:
    batch, groups = recipe.rollout.generation_batch, recipe.rollout.groups
    if batch > groups:
        return None
    return Finding(
        level="note",
        keys=("rollout.generation_batch", "rollout.groups"),
        text=f"{batch} problems for {groups} groups: one group without contrast costs another generation batch",
        advice=f"rollout.generation_batch = {groups + (groups + 1) // 2}",
    )


def rare_evaluation(recipe: Recipe, _: torch.device) -> Finding | None:
    if recipe.eval.every < recipe.run.steps or recipe.run.steps < 10:
        return None
    return Finding(
        level="note",
        keys=("eval.every", "run.steps"),
        text=f"an evaluation every {recipe.eval.every} of {recipe.run.steps} steps: there is one before and one after "
        "training, and the best checkpoint between them is not found",
    )


def other_temperature(recipe: Recipe, _: torch.device) -> Finding | None:
    training, evaluation = recipe.rollout.temperature, recipe.eval.temperature
    if training == evaluation:
        return None
    return Finding(
        level="note",
        keys=("rollout.temperature", "eval.temperature"),
        text=f"trained at {training:g} and evaluated at {evaluation:g}: avg@k is of another distribution than the one "
        "that is trained",
    )


RULES: tuple[Rule, ...] = (
    one_mini_batch,
    credit_under_lora,
    truncated_sampling,
    boxed_without_reader,
    endless_warmup,
    slow_half_precision,
    tf32_without_cuda,
    no_surplus,
    rare_evaluation,
    other_temperature,
)


def _written(values: dict[str, float]) -> str:
    return ", ".join(f"{key} = {value:g}" for key, value in values.items())
