"""From what was measured on a few responses to the time of a step and of a run."""

from dataclasses import dataclass
from math import ceil

from fipo.doctor.findings import Finding
from fipo.doctor.recipe.samples import SampleFigures
from fipo.training.passes.segments import LEAST_SHARED
from fipo.training.recipe import Recipe

LONG_LOSS = 3600.0  # seconds of work that a machine's death may cost


@dataclass(frozen=True, kw_only=True)
class DecodeSpeed:
    """A decode step takes `fixed + rows * per_row` seconds."""

    fixed: float
    per_row: float

    def seconds(self, tokens: float, steps: float) -> float:
        return self.fixed * steps + self.per_row * tokens


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """Seconds, measured."""

    decode: DecodeSpeed
    slowdown: float  # of the sampled responses against `decode`, which was measured near the prompt; >= 1
    prefill_per_token: float
    grade_per_answer: float
    score_per_token: float  # old log-probs, and those of a reference
    update_per_token: float
    optimizer_step: float
    packed: bool  # prompts are trained on once a group


def trained_tokens(prompt: float, responses: float, group_size: int, *, packed: bool) -> float:
    """Tokens that a group's training computes, of a prompt and its responses together."""
    return responses + prompt * (1 if packed and prompt >= LEAST_SHARED else group_size)


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds by phase: of a training step, and of one evaluation."""

    step: dict[str, float]
    evaluation: float

    @property
    def step_seconds(self) -> float:
        return sum(self.step.values())

    def run_seconds(self, recipe: Recipe) -> float:
        evaluations = 1 + ceil(recipe.run.steps / recipe.eval.every)
        return recipe.run.steps * self.step_seconds + evaluations * self.evaluation


def fit_decode(small: tuple[int, float], large: tuple[int, float]) -> DecodeSpeed:
    """From (rows, seconds of a decode step) at two sizes: the line through both, neither part below 0."""
    (few, short), (many, long) = small, large
    if many <= few:
        return DecodeSpeed(fixed=0.0, per_row=long / many)
    per_row = max(0.0, (long - short) / (many - few))
    fixed = long - per_row * many
    return DecodeSpeed(fixed=fixed, per_row=per_row) if fixed >= 0 else DecodeSpeed(fixed=0.0, per_row=long / many)


def times(recipe: Recipe, speeds: Speeds, figures: SampleFigures, eval_problems: int, *, pessimistic: bool) -> Times:
    """The times of steps like the first ones.

    The two ends of the range: responses a standard error shorter or longer than the sampled ones, the longest as
    long as the longest sampled one or as the recipe allows, decoding as near the prompt or as slow as it was on whole
    responses, and generation batches for groups that all serve or for the expected share of them.
    """
    rollout, update = recipe.rollout, recipe.update
    length = max(1.0, figures.mean_length + figures.length_error * (1 if pessimistic else -1))
    batches = generation_batches(recipe, figures.mixed if pessimistic else 1.0)
    answers = batches * rollout.generation_batch * rollout.group_size
    group_size = rollout.group_size
    trained = rollout.groups * trained_tokens(
        figures.mean_prompt, group_size * length, group_size, packed=speeds.packed
    )
    later = (update.mini_batches - 1) / update.mini_batches + (1 if recipe.objective.kl_coef else 0)

    def generate(problems: float, samples: float, calls: int) -> float:
        """Seconds for `samples` responses to each of `problems`, in so many calls."""
        tokens = problems * samples * length
        longest = rollout.max_response_tokens if pessimistic else figures.longest
        slots = min(rollout.decode_batch, problems * samples / calls)
        steps = calls * max(longest, tokens / calls / slots)
        decoding = speeds.decode.seconds(tokens, steps) * (speeds.slowdown if pessimistic else 1.0)
        return decoding + speeds.prefill_per_token * problems * figures.mean_prompt

    step = {
        "generate": generate(batches * rollout.generation_batch, rollout.group_size, batches),
        "grade": speeds.grade_per_answer * answers,
        "log-probs": speeds.score_per_token * trained * later,
        "update": speeds.update_per_token * trained + speeds.optimizer_step * update.mini_batches,
    }
    samples = recipe.eval.samples + 1  # and the greedy one
    evaluation = generate(eval_problems, samples, 2) + speeds.grade_per_answer * eval_problems * samples
    return Times(step=step, evaluation=evaluation)


def generation_batches(recipe: Recipe, mixed: float) -> int:
    """How many it takes to fill a step's groups when this share of groups is mixed."""
    rollout = recipe.rollout
    if mixed <= 0:
        return rollout.max_generation_batches
    return min(rollout.max_generation_batches, ceil(rollout.groups / (rollout.generation_batch * mixed)))


def loss_findings(recipe: Recipe, low: Times) -> list[Finding]:
    """Says so of checkpoints so far apart that a machine that dies costs hours."""
    every = min(recipe.checkpoint.every, recipe.run.steps)
    lost = every * low.step_seconds
    if lost <= LONG_LOSS:
        return []
    return [
        Finding(
            level="warning",
            keys=("checkpoint.every",),
            text=f"between two checkpoints lie {every} steps: a machine that dies costs up to {duration(lost)} of work",
            advice=f"checkpoint.every = {max(1, int(LONG_LOSS / low.step_seconds))}",
        )
    ]


def duration(seconds: float) -> str:
    """Two digits of it: `0.32 s`, `41 s`, `12 min`, `3.4 h`, `2.1 days`."""
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{_two_digits(seconds / size)} {unit}"
    return f"{_two_digits(seconds)} s"


def _two_digits(number: float) -> str:
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}" if number >= 1 else f"{number:.2f}"
