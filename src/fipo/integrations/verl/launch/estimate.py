"""How much a job asks of its GPUs: bytes of one GPU and tokens of one step, before any of it is reserved."""

from dataclasses import dataclass

from fipo.errors import UserError
from fipo.integrations.verl.launch.recipe import LaunchRecipe

GIB = 2**30
BF16, FP32 = 2, 4
STATE = 2 * FP32  # two moments of AdamW
LOGIT_BYTES = BF16 + FP32  # themselves, and once more in float32


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Upper bounds: every response as long as it may be."""

    gpus: int
    responses: int  # trained on, per step
    tokens: int  # of those responses
    updates: int  # optimizer steps per step
    training: dict[str, float]  # bytes of one GPU
    sampling: dict[str, float]  # bytes of one GPU
    cached_sequences: float  # whole ones that the key-value cache of one rollout replica holds


def estimate(recipe: LaunchRecipe) -> Estimate:
    """Of the job as verl would run it with FSDP, over `fsdp_size` GPUs or all of them.

    Raises UserError for a batch, length or parallel size that the recipe leaves out or that does not divide.
    """
    job, shape = recipe.job, recipe.shape
    gpus = job.nnodes * job.gpus_per_node
    prompts, group = recipe.whole_number("data.train_batch_size"), recipe.whole_number("actor_rollout_ref.rollout.n")
    response = recipe.whole_number("data.max_response_length")
    length = recipe.whole_number("data.max_prompt_length") + response
    pack = recipe.whole_number("actor_rollout_ref.actor.ppo_max_token_len_per_gpu")
    _divides(recipe, "actor_rollout_ref.actor.ulysses_sequence_parallel_size", gpus)
    tensor_parallel = _divides(recipe, "actor_rollout_ref.rollout.tensor_model_parallel_size", gpus)
    sharded = gpus  # -1, verl's default, means all
    if recipe.table("actor_rollout_ref.actor.fsdp_config").get("fsdp_size", -1) != -1:
        sharded = _divides(recipe, "actor_rollout_ref.actor.fsdp_config.fsdp_size", gpus)
    weights = BF16 * shape.parameters / tensor_parallel
    share = recipe.number("actor_rollout_ref.rollout.gpu_memory_utilization")
    cache = max(0.0, share * job.gpu_memory_gib * GIB - weights)
    per_token = 2 * BF16 * shape.layers * shape.kv_heads * shape.head_size / tensor_parallel
    return Estimate(
        gpus=gpus,
        responses=prompts * group,
        tokens=prompts * group * response,
        updates=recipe.updates,
        training={
            "float32 weights, gradients and AdamW's state": (2 * FP32 + STATE) * shape.parameters / sharded,
            "two gathered layers": 2 * BF16 * shape.parameters / shape.layers,
            "activations at the layers' edges": float(BF16 * shape.layers * shape.hidden * pack),
            "logits": float(LOGIT_BYTES * shape.vocabulary * pack),
        },
        sampling={"weights": weights, "key-value cache": cache},
        cached_sequences=cache / per_token / length,
    )


def _divides(recipe: LaunchRecipe, key: str, gpus: int) -> int:
    size = recipe.whole_number(key)
    if gpus % size:
        raise UserError(f"verl.{key} must divide the {gpus} GPUs, got {size}")
    return size


def described(recipe: LaunchRecipe) -> list[str]:
    """The estimate in lines."""
    found, job = estimate(recipe), recipe.job
    peak = max(sum(found.training.values()), sum(found.sampling.values()))
    room = "fits" if peak <= job.gpu_memory_gib * GIB else "does NOT fit"
    return [
        f"{job.name}: {found.gpus} GPUs on {job.nnodes} nodes; estimates, with every response as long as it may be",
        f"a step: {found.responses:,} responses, {found.tokens / 1e6:,.1f} M tokens, {found.updates} updates; "
        "dynamic sampling generates more, by what it drops",
        f"training, GiB of one GPU: {_parts(found.training)}",
        f"sampling, GiB of one GPU: {_parts(found.sampling)}; "
        f"the cache of a replica holds {found.cached_sequences:.1f} sequences of full length",
        f"peak: {peak / GIB:.1f} GiB of one GPU, {room} {job.gpu_memory_gib:g} GiB",
    ]


def _parts(parts: dict[str, float]) -> str:
    listed = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts.items())
    return f"{sum(parts.values()) / GIB:.1f} ({listed})"
