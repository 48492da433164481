"""The recipe's own model on the recipe's own problems, for a minute: a few responses, and two small training steps.

Nothing is written. The weights move, and are thrown away.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fipo.beat import no_beat
from fipo.data.problem import Problem
from fipo.doctor.recipe.samples import SampleFigures, figures_of
from fipo.doctor.recipe.timing import DecodeSpeed, Speeds, fit_decode, trained_tokens
from fipo.grading.grade import Grade
from fipo.rollout.groups import Group, Roller
from fipo.rollout.sampler import SamplingParams
from fipo.seeding import derive_seed
from fipo.telemetry.clock import Clock
from fipo.training.recipe import Recipe
from fipo.training.setup import set_up
from fipo.training.step import train_step
from fipo.training.trainer import Trainer

QUICK = 10.0  # seconds: what takes less is done again, now that its decode steps are recorded
DECODED = 9  # tokens of each response when decoding is timed: a prompt's first, and eight more


@dataclass(frozen=True, kw_only=True)
class Probe:
    groups: list[Group]
    figures: SampleFigures
    speeds: Speeds
    eval_problems: int
    logprob_gap: float  # mean difference of the sampler's log-probs from the trainer's, nats
    said: list[str]  # by the setup: rows left out, slower fallbacks


def probe(recipe: Recipe, *, problems: int, samples: int, progress: Callable[[str], None]) -> Probe:
    """Sample, and time what training does. Raises UserError for what `fipo train` would refuse."""
    said: list[str] = []
    progress("loading")
    with recipe.graders() as graders:
        graders.start()
        setup = set_up(recipe, graders, said.append, no_beat)
        trainer = setup.trainer
        asked = trainer.stream.take(min(problems, len(trainer.stream.problems)))
        progress("timing the decoding")
        decode, prefill = _decode_speed(recipe, trainer.roller, asked, samples)
        progress(f"sampling {len(asked)} x {samples} responses")
        groups, clock = _sampled(recipe, trainer.roller, asked, samples)
    figures = figures_of(groups, recipe.rollout.group_size)
    predicted = decode.seconds(figures.responses * figures.mean_length, figures.longest)
    progress("timing two small steps")
    training, gap = _training_speed(trainer, groups)
    return Probe(
        groups=groups,
        figures=figures,
        speeds=Speeds(
            decode=decode,
            slowdown=max(1.0, clock.seconds["generate"] / predicted) if predicted else 1.0,
            prefill_per_token=prefill,
            grade_per_answer=clock.seconds["grade"] / figures.responses,
            packed=trainer.layout == "packed",
            **training,
        ),
        eval_problems=len(setup.eval_problems),
        logprob_gap=gap,
        said=said,
    )


def _sampled(recipe: Recipe, roller: Roller, problems: Sequence[Problem], samples: int) -> tuple[list[Group], Clock]:
    """Whole responses, and the clock of the run that made them (of the second run, if that was quick)."""
    params = recipe.rollout.params(recipe.rollout.max_response_tokens)
    for _ in range(2):
        clock = Clock()
        groups = roller.groups(problems, samples, params, derive_seed(recipe.run.seed, "doctor"), clock)
        if clock.seconds["generate"] > QUICK:
            break
    return groups, clock


def _decode_speed(
    recipe: Recipe, roller: Roller, problems: Sequence[Problem], samples: int
) -> tuple[DecodeSpeed, float]:
    """(seconds of a decode step, seconds for each token of a prompt), from a first token and eight more.

    At two sizes: as many sequences as are sampled here, and as many as a training step decodes together.
    """
    rollout = recipe.rollout
    together = min(rollout.decode_batch, rollout.generation_batch * rollout.group_size)
    more = max(samples, together // len(problems))
    measured: list[tuple[int, float]] = []
    prefill = 0.0
    for count in (samples, more):
        reading, prompt_tokens = _seconds(recipe, roller, problems, count, 1)
        whole, _ = _seconds(recipe, roller, problems, count, min(DECODED, rollout.max_response_tokens))
        measured.append((len(problems) * count, max(whole - reading, 0.0) / (DECODED - 1)))
        prefill = reading / prompt_tokens
    return fit_decode(measured[0], measured[1]), prefill


def _seconds(
    recipe: Recipe, roller: Roller, problems: Sequence[Problem], samples: int, tokens: int
) -> tuple[float, int]:
    """(seconds of generation, tokens of the prompts): the faster of two runs, for the first one may record steps."""
    clocks = [Clock(), Clock()]
    for clock in clocks:
        groups = roller.groups(problems, samples, recipe.rollout.params(tokens), 0, clock)
    return min(clock.seconds["generate"] for clock in clocks), sum(len(group.prompt_tokens) for group in groups)


def _training_speed(trainer: Trainer, groups: Sequence[Group]) -> tuple[dict[str, float], float]:
    """(the speeds of old log-probs and updates, the mean gap of log-probs), by training steps on sampled groups.

    On one group, twice, for the first step is slower; then on a micro-batch or so of them in two mini-batches.
    """

    def tokens_of(group: Group) -> float:
        responses = [len(response.tokens) for response in group.responses]
        packed = trainer.layout == "packed"
        return trained_tokens(len(group.prompt_tokens), sum(responses), len(responses), packed=packed)

    shortest_first = sorted(groups, key=tokens_of)
    several = shortest_first[:2]
    for group in shortest_first[2:]:
        if sum(map(tokens_of, several)) >= trainer.recipe.update.tokens_per_micro_batch:
            break
        several.append(group)
    first, gap = _step(trainer, shortest_first[:1], mini_batches=1)  # the gap is of weights that have not moved yet
    again, _ = _step(trainer, shortest_first[:1], mini_batches=1)
    one = min(first["update"], again["update"])
    whole, _ = _step(trainer, several, mini_batches=min(2, len(several)))
    tokens = sum(map(tokens_of, several))
    extra = tokens - 2 * tokens_of(shortest_first[0])
    per_token = (whole["update"] - 2 * one) / extra if extra > 0 else 0.0
    if per_token <= 0:
        per_token = whole["update"] / tokens
    optimizer_step = max(0.0, one - per_token * tokens_of(shortest_first[0]))
    scored = sum(map(tokens_of, several[1::2]))
    return {
        "update_per_token": per_token,
        "optimizer_step": optimizer_step,
        "score_per_token": whole["old_logprobs"] / scored if scored else per_token / 3,
    }, gap


def _step(trainer: Trainer, groups: Sequence[Group], *, mini_batches: int) -> tuple[dict[str, float], float]:
    """(seconds by phase, mean gap of log-probs) of a training step on these groups."""
    recipe = trainer.recipe
    size = len(groups)
    small = recipe.model_copy(
        update={
            "rollout": recipe.rollout.model_copy(
                update={
                    "groups": size,
                    "generation_batch": size,
                    "group_size": len(groups[0].responses),
                    "max_generation_batches": 1,
                    "on_short_batch": "train",
                }
            ),
            "update": recipe.update.model_copy(update={"mini_batches": mini_batches}),
            "telemetry": recipe.telemetry.model_copy(update={"noise_every": 0}),
        }
    )
    clock = Clock()
    record = train_step(replace(trainer, recipe=small, roller=_Given(list(groups))), 1, clock)
    return clock.seconds, record.metrics(small, clock).get("rollout/logprob_gap/mean", 0.0)


@dataclass(frozen=True)
class _Given:
    """A Roller of groups that were sampled before, for a training step that is timed.

    Their grades are set so that success varies in each: how long a step takes does not depend on who was right.
    """

    given: list[Group]

    def groups(
        self, problems: Sequence[Problem], group_size: int, params: SamplingParams, seed: int, clock: Clock
    ) -> list[Group]:
        with clock.phase("generate"), clock.phase("grade"):
            return [replace(group, grades=_mixed(len(group.grades))) for group in self.given]


def _mixed(count: int) -> list[Grade]:
    return [Grade(outcome="wrong" if i else "correct", answer=None) for i in range(count)]
