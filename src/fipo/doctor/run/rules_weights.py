"""The influence weights: do they say anything?"""

from fipo.doctor.findings import CannotTell, Finding
from fipo.doctor.run.history import WINDOW, History

# Noise of 0.055 nats per token, as bf16 has it, puts about a fifth of the tokens beyond each of 0.8 and 1.2
# (half-life 32); weights that reach so far are bounds rather than weights.
SATURATED_PER_BOUND = 0.2
# Weights within 1% of 1 move no update by more than the seed does: (1, 1.2) with sd 0.03-0.05 did not in twelve seeds.
IDLE_STD = 0.01
# On pure noise (1, 1.2) has a mean near 1.07, (0.8, 1.2) near 1: beyond 1 +- 0.05 the mean is worth a look.
MEAN_DRIFT = 0.05

# Half as much rounding as signal is a fifth of the FutureKL's variance. docs/precision.md has what was measured.
ROUNDED = 0.5
MEASURED = 3  # measurements that the median is of; there is one in ten steps

STD = "fipo/influence_weight/std"


def weights_saturated(history: History) -> Finding | None:
    """Too many weights stand at their bounds. A bound of 1 does not count: half of all tokens lie beyond it."""
    low, high = _reached_bounds(history)
    keys = ["fipo/influence_weight/clipped_low"] * low + ["fipo/influence_weight/clipped_high"] * high
    shares = history.summed(keys, least=WINDOW).trailing()
    limit = SATURATED_PER_BOUND * len(keys)
    steps = shares.since(lambda share: share > limit)
    if steps is None:
        return None
    return Finding(
        level="warning",
        steps=steps,
        text=f"{shares.values[-1]:.0%} of the trained tokens have a weight at a bound ({shares.key}): "
        "the weights tell two kinds of tokens apart, not tokens",
        advice="a smaller update.learning_rate, fewer update.mini_batches, a smaller objective.half_life, or a wider "
        "objective.influence_clip",
    )


def weights_idle(history: History) -> Finding | None:
    """The weights are so close to 1 that the run is DAPO."""
    std = history.series(STD, least=WINDOW).trailing()
    bounds = history.setting("resolved", "objective", "influence_clip")
    if bounds is not None and bounds[0] == bounds[1]:
        raise CannotTell("every weight is 1 in this recipe")
    steps = std.since(lambda value: value < IDLE_STD)
    if steps is None:
        return None
    one = history.setting("update", "mini_batches") == 1
    why = "with one mini-batch every weight is 1" if one else "the weights hardly differ from 1"
    return Finding(
        level="note",
        steps=steps,
        text=f"{why}: {STD} is {std.values[-1]:.2g}, so that the run is DAPO within {IDLE_STD:.0%}",
        advice="more update.mini_batches, or a larger update.learning_rate if the run is stable",
    )


def mean_weight_off(history: History) -> Finding | None:
    """A mean weight away from 1 scales the update: a hidden step size."""
    mean = history.series("fipo/influence_weight/mean", least=WINDOW).trailing()
    steps = mean.since(lambda value: abs(value - 1) > MEAN_DRIFT)
    if steps is None:
        return None
    return Finding(
        level="note",
        steps=steps,
        text=f"fipo/influence_weight/mean is {mean.values[-1]:.3f}: it scales the update of every token, which "
        "a comparison with DAPO must not take for credit",
        advice="a DAPO run to compare with, with update.learning_rate times this mean; objective.influence_clip = "
        "[0.8, 1.2] brings the mean near 1, but in wrong responses its weights were smallest on the mistakes "
        "(docs/evidence.md)",
    )


def weights_are_rounding(history: History) -> Finding | None:
    """The policy's arithmetic adds more to the FutureKL than half of what float32 finds in it."""
    if max(history.series(STD).values) == 0:
        raise CannotTell("every weight is 1")
    noise = history.series("fipo/future_kl_noise").trailing(MEASURED)
    if not noise.values:
        raise CannotTell(f"measured less than {MEASURED} times so far")
    steps = noise.since(lambda value: value > ROUNDED)
    if steps is None:
        return None
    idle = history.series(STD).last() < IDLE_STD
    share = history.series("fipo/rounding/influence_weight_share").last(MEASURED)
    return Finding(
        level="note" if idle else "warning",
        steps=steps,
        text=f"the rounding of the policy's arithmetic is {noise.values[-1]:.2g} times as large as its signal: "
        f"fipo/future_kl_noise; {share:.0%} of the variance of the weights is not in those of float32"
        + (", though they are too close to 1 to matter" if idle else ""),
        advice=f"{_finer(history)}; a larger update.learning_rate; a smaller objective.half_life; or DAPO",
    )


def _finer(history: History) -> str:
    """The next better arithmetic than the run's."""
    precision = str(history.setting("versions", "precision", default=""))
    if precision.startswith("bfloat16"):
        return 'model.dtype = "float16"'
    if history.setting("model", "matmul") == "tf32":
        return 'model.matmul = "float32"'
    return 'model.dtype = "float32"'


def _reached_bounds(history: History) -> tuple[bool, bool]:
    """Whether weights get below 1, and above it. Raises CannotTell where all of them are 1."""
    low = min(history.series("fipo/influence_weight/min").values) < 1
    high = max(history.series("fipo/influence_weight/max").values) > 1
    if not low and not high:
        raise CannotTell("every weight is 1")
    return low, high
