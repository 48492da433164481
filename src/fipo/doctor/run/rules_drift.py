"""The log-ratios that the weights are made of: are they what the method takes them for, and do they know the reward?"""

from dataclasses import dataclass

from fipo.doctor.findings import CannotTell, Finding
from fipo.doctor.run.history import WINDOW, History
from fipo.doctor.run.rules_weights import IDLE_STD, STD

NORMAL_95 = 1.96  # standard deviations in half an interval
SURE = 3.0  # standard deviations of the mean over WINDOW steps
SIGNAL_STEPS = 50  # that the signal is averaged over: a step of a few dozen responses knows it to some +-.3
NO_SIGNAL = 0.1  # in runs of ours whose weights moved it was .18 to .49
# A mean ratio closer to 1 than this moves no weight. In healthy runs of ours it was within 3e-4, in the shortest
# responses (five tokens) within 2.4e-3; responses that were used once before had .9989, which this does not see.
RATIO_OFF = 2e-3


@dataclass(frozen=True, kw_only=True)
class Averaged:
    """A metric over the last steps that have it."""

    distance: float  # from what is expected
    deviation: float  # its standard error, of independent draws
    bias: float  # what rounding of the log-probs may add to every step alike, so that no average takes it away
    steps: tuple[int, int]  # first, last


def ratio_off(history: History) -> Finding | None:
    """The mean ratio of tokens that were sampled from the old policy and used once is 1."""
    mean = _last(history, "fipo/ratio_mean", around=1.0, steps=WINDOW, rounding=True)
    if abs(mean.distance) <= max(RATIO_OFF, SURE * mean.deviation + mean.bias):
        return None
    error = NORMAL_95 * mean.deviation + mean.bias
    return Finding(
        level="warning",
        steps=mean.steps,
        text=f"fipo/ratio_mean is {1 + mean.distance:.4f} +- {error:.4f} over {WINDOW} steps and should be 1: "
        "the trained responses are no fresh draw from the policy that the ratios are taken against",
        advice="rollout/logprob_gap and model.dtype first; rollout.top_p = 1 and top_k = 0; responses used once; "
        "groups/generation_batches, as few mixed groups are no fair draw",
    )


def no_response_signal(history: History) -> Finding | None:
    """Summed log-ratios do not go with the advantages. In long responses their noise grows, and F looks less far."""
    std = history.series(STD)
    if max(std.values) == 0:
        raise CannotTell("every weight is 1")
    mean = _last(history, "fipo/response_signal", around=0.0, steps=SIGNAL_STEPS)
    if mean.distance - 2 * mean.deviation > 0:
        return None
    if mean.distance + 2 * mean.deviation > NO_SIGNAL:
        raise CannotTell(f"known to +- {2 * mean.deviation:.2f} so far, which is too little")
    idle = std.last() < IDLE_STD
    return Finding(
        level="note" if idle else "warning",
        steps=mean.steps,
        text=f"fipo/response_signal is {mean.distance:+.3f} +- {2 * mean.deviation:.3f}: within groups the log-ratios, "
        "summed over a response, show no signal of its advantage; in long responses they need not"
        + (", and the weights are too close to 1 to matter" if idle else ""),
        advice="rollout/logprob_gap and model.dtype, as rounding is summed up, too; a comparison with DAPO; more "
        "responses per update",
    )


def spread_off(history: History) -> Finding | None:
    """The FutureKL is spread otherwise than sums of uncorrelated log-ratios are."""
    if max(history.series(STD).values) == 0:
        raise CannotTell("every weight is 1")
    from fipo.doctor.run.spread import flipped_control  # and torch with it, which takes seconds to load

    control = flipped_control(history)
    if not control.far:
        return None
    return Finding(
        level="warning",
        steps=control.steps,
        text=f"within responses, the FutureKL spreads {control.ratio:.2f} times as much as with log-ratios of random "
        f"signs ({control.low:.2f} to {control.high:.2f} in {control.flips} draws; {control.responses} responses, "
        f"{control.tokens:,} tokens), and fresh responses used once have 1",
        advice="responses used once; rollout.top_p = 1 and top_k = 0; rollout/logprob_gap and model.dtype; a smaller "
        "update.learning_rate",
    )


def _last(history: History, key: str, *, around: float, steps: int, rounding: bool = False) -> Averaged:
    """Over the last `steps` that have the key, from its /low and /high; with `rounding` these hold a bias."""
    values, low, high = (history.series(name, least=WINDOW) for name in (key, f"{key}/low", f"{key}/high"))
    last, at = values.values[-steps:], values.steps[-steps:]
    margins = [(b - a) / 2 for a, b in zip(low.values[-steps:], high.values[-steps:], strict=True)]
    largest = _rounding(history) if rounding else {}
    biases = [min(margin, largest.get(step, 0.0)) for margin, step in zip(margins, at, strict=True)]
    squares = sum(((margin - bias) / NORMAL_95) ** 2 for margin, bias in zip(margins, biases, strict=True))
    return Averaged(
        distance=sum(last) / len(last) - around,
        deviation=squares**0.5 / len(last),
        bias=sum(biases) / len(last),
        steps=(at[0], at[-1]),
    )


def _rounding(history: History) -> dict[int, float]:
    """By step, the most that rounding adds to the mean ratio: half the mean square of the sampler's gap.

    Recorded are its mean and maximum, whose product no mean square exceeds.
    """
    means, maxima = (history.series(f"rollout/logprob_gap/{name}") for name in ("mean", "max"))
    largest = dict(zip(maxima.steps, maxima.values, strict=True))
    return {step: 0.5 * mean * largest[step] for step, mean in zip(means.steps, means.values, strict=True)}
