"""How much a job asks of its GPUs and disks: bytes, tokens and hours of a step, before any of it is reserved."""

from dataclasses import dataclass

from fipo.errors import UserError
from fipo.integrations.verl.launch.recipe import LaunchRecipe

GIB = 2**30
BF16, FP32 = 2, 4
STATE = 2 * FP32  # two moments of AdamW
LOGIT_BYTES = BF16 + FP32  # themselves, and once more in float32
SAVED = {
    "model": FP32,
    "optimizer": STATE,
    "hf_model": FP32,
}  # of a weight, by verl's words of save_contents
SAVED_BY_DEFAULT = ("model", "optimizer", "extra")
PASSES = 5  # over a trained token, in forward passes: old log-probs, update, recomputed activations, backward (2)
ARITHMETIC, BANDWIDTH = 0.4, 0.6  # shares of the data sheet's figures that such jobs reach
SHORT = 0.25  # of the full length


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The recipe's sizes, checked against one another."""

    gpus: int
    prompts: int
    group: int
    prompt: int  # tokens at most
    response: int  # tokens at most
    pack: int
    tensor_parallel: int
    sharded: int  # GPUs that share the weights


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

    @property
    def peak(self) -> float:
        """Bytes of one GPU."""
        return max(sum(self.training.values()), sum(self.sampling.values()))


def sizes_of(recipe: LaunchRecipe) -> Sizes:
    """Raises UserError for a batch, length or parallel size that the recipe leaves out or that does not divide."""
    gpus = recipe.job.nnodes * recipe.job.gpus_per_node
    _divides(recipe, "actor_rollout_ref.actor.ulysses_sequence_parallel_size", gpus)
    sharded = gpus  # -1, verl's default, means all
    if recipe.table("actor_rollout_ref.actor.fsdp_config").get("fsdp_size", -1) != -1:
        sharded = _divides(recipe, "actor_rollout_ref.actor.fsdp_config.fsdp_size", gpus)
    return Sizes(
        gpus=gpus,
        prompts=recipe.whole_number("data.train_batch_size"),
        group=recipe.whole_number("actor_rollout_ref.rollout.n"),
        prompt=recipe.whole_number("data.max_prompt_length"),
        response=recipe.whole_number("data.max_response_length"),
        pack=recipe.whole_number("actor_rollout_ref.actor.ppo_max_token_len_per_gpu"),
        tensor_parallel=_divides(recipe, "actor_rollout_ref.rollout.tensor_model_parallel_size", gpus),
        sharded=sharded,
    )


def estimate(recipe: LaunchRecipe) -> Estimate:
    """What the job takes under FSDP in verl, over `fsdp_size` GPUs or all of them. Errors: as `sizes_of`."""
    shape, sizes = recipe.shape, sizes_of(recipe)
    weights = BF16 * shape.parameters / sizes.tensor_parallel
    share = recipe.number("actor_rollout_ref.rollout.gpu_memory_utilization")
    cache = max(0.0, share * recipe.job.gpu_memory_gib * GIB - weights)
    return Estimate(
        gpus=sizes.gpus,
        responses=sizes.prompts * sizes.group,
        tokens=sizes.prompts * sizes.group * sizes.response,
        updates=recipe.updates,
        training={
            "float32 weights, gradients and AdamW's state": (2 * FP32 + STATE) * shape.parameters / sizes.sharded,
            "two gathered layers": 2 * BF16 * shape.parameters / shape.layers,
            "activations at the layers' edges": float(BF16 * shape.layers * shape.hidden * sizes.pack),
            "logits": float(LOGIT_BYTES * shape.vocabulary * sizes.pack),
        },
        sampling={"weights": weights, "key-value cache": cache},
        cached_sequences=cache / _cached_token(recipe, sizes) / (sizes.prompt + sizes.response),
    )


def hours(recipe: LaunchRecipe, share: float) -> tuple[float, float]:
    """(training, sampling) of a step whose responses have this share of the full length, without what is dropped.

    Training: PASSES x (2 x weights + 2 x layers x hidden x length) operations a token. Sampling: every token of the
    longest response reads the weights and half of the caches that fit, once per wave of responses.
    """
    shape, job, sizes, found = recipe.shape, recipe.job, sizes_of(recipe), estimate(recipe)
    length = sizes.prompt + share * sizes.response
    operations = PASSES * (2 * shape.parameters + 2 * shape.layers * shape.hidden * length)
    training = found.responses * length * operations / (sizes.gpus * job.gpu_tflops * 1e12 * ARITHMETIC)
    per_replica = found.responses * sizes.tensor_parallel / sizes.gpus
    together = min(per_replica, found.sampling["key-value cache"] / _cached_token(recipe, sizes) / length)
    read = found.sampling["weights"] + together * length / 2 * _cached_token(recipe, sizes)
    sampling = (
        per_replica / max(together, 1.0) * share * sizes.response * read / (job.gpu_gb_per_second * 1e9 * BANDWIDTH)
    )
    return training / 3600, sampling / 3600


def checkpoint_bytes(recipe: LaunchRecipe) -> int:
    """The size of one checkpoint, all ranks together."""
    given = recipe.value("actor_rollout_ref.actor.checkpoint.save_contents")
    words = given if isinstance(given, list) else SAVED_BY_DEFAULT
    return sum(SAVED.get(word, 0) for word in words if isinstance(word, str)) * recipe.shape.parameters


def _cached_token(recipe: LaunchRecipe, sizes: Sizes) -> float:
    """Bytes of keys and values of a token on one GPU."""
    shape = recipe.shape
    return 2 * BF16 * shape.layers * shape.kv_heads * shape.head_size / sizes.tensor_parallel


def _divides(recipe: LaunchRecipe, key: str, gpus: int) -> int:
    size = recipe.whole_number(key)
    if gpus % size:
        raise UserError(f"verl.{key} must divide the {gpus} GPUs, got {size}")
    return size


def described(recipe: LaunchRecipe) -> list[str]:
    """The estimate in lines."""
    found, job = estimate(recipe), recipe.job
    room = "fits" if found.peak <= job.gpu_memory_gib * GIB else "does NOT fit"
    short, full = hours(recipe, SHORT), hours(recipe, 1.0)
    return [
        f"{job.name}: {found.gpus} GPUs on {job.nnodes} nodes; estimates, with every response as long as it may be",
        f"a step: {found.responses:,} responses, {found.tokens / 1e6:,.1f} M tokens, {found.updates} updates; "
        "dynamic sampling generates more, by what it drops",
        f"training, GiB of one GPU: {_parts(found.training)}",
        f"sampling, GiB of one GPU: {_parts(found.sampling)}; "
        f"the cache of a replica holds {found.cached_sequences:.1f} sequences of full length",
        f"peak: {found.peak / GIB:.1f} GiB of one GPU, {room} {job.gpu_memory_gib:g} GiB",
        f"hours of a step: {sum(full):.2f} ({full[0]:.2f} training, {full[1]:.2f} sampling), {sum(short):.2f} with "
        f"responses of a quarter of the length; without what dynamic sampling drops, at {ARITHMETIC:.0%} of "
        f"{job.gpu_tflops:g} TFLOP/s and {BANDWIDTH:.0%} of {job.gpu_gb_per_second:g} GB/s a GPU",
    ]


def _parts(parts: dict[str, float]) -> str:
    listed = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts.items())
    return f"{sum(parts.values()) / GIB:.1f} ({listed})"
