"""The log-ratios that the weights are made of: are they what the method takes them for, and do they know the reward?"""

from fipo.doctor.findings import CannotTell, Finding
from fipo.doctor.run.history import WINDOW, History
from fipo.doctor.run.rules_weights import IDLE_STD, STD

NORMAL_95 = 1.96  # standard deviations in half an interval
SURE = 3.0  # standard deviations of the mean over WINDOW steps
SIGNAL_STEPS = 50  # that the signal is averaged over: a step of a few dozen responses knows it to some +-.3
NO_SIGNAL = 0.1  # in runs of ours whose weights moved it was .18 to .49
RATIO_OFF = 2e-3  # a mean ratio closer to 1 than this moves no weight: in healthy runs of ours it was within 3e-4


def ratio_off(history: History) -> Finding | None:
    """The mean ratio of tokens that were sampled from the old policy and used once is 1."""
    mean, deviation, steps = _last(history, "fipo/ratio_mean", around=1.0, steps=WINDOW)
    if abs(mean) <= max(RATIO_OFF, SURE * deviation):
        return None
    return Finding(
        level="warning",
        steps=steps,
        text=f"fipo/ratio_mean is {1 + mean:.4f} +- {NORMAL_95 * deviation:.4f} over {WINDOW} steps and should be 1: "
        "the trained responses are no fresh draw from the policy that the ratios are taken against",
        advice="rollout/logprob_gap and model.dtype first; rollout.top_p = 1 and top_k = 0; responses used once; "
        "groups/generation_batches, as few mixed groups are no fair draw",
    )


def no_response_signal(history: History) -> Finding | None:
    """Summed log-ratios hardly go with the advantages, so the weights cannot know what was good."""
    std = history.series(STD)
    if max(std.values) == 0:
        raise CannotTell("every weight is 1")
    mean, deviation, steps = _last(history, "fipo/response_signal", around=0.0, steps=SIGNAL_STEPS)
    if mean - 2 * deviation > 0:
        return None
    if mean + 2 * deviation > NO_SIGNAL:
        raise CannotTell(f"known to +- {2 * deviation:.2f} so far, which is too little")
    idle = std.last() < IDLE_STD
    return Finding(
        level="note" if idle else "warning",
        steps=steps,
        text=f"fipo/response_signal is {mean:+.3f} +- {2 * deviation:.3f}: within groups the updates hardly moved good "
        "responses up and bad ones down before they were trained on, so the weights are noise"
        + (", though too close to 1 to matter" if idle else ""),
        advice="rollout/logprob_gap and model.dtype, as rounding is summed up, too; more responses per update; or DAPO",
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


def _last(history: History, key: str, *, around: float, steps: int) -> tuple[float, float, tuple[int, int]]:
    """(mean distance from `around`, its standard deviation, steps) over the last `steps` that have the key.

    The intervals of single steps are of independent draws.
    """
    values, low, high = (history.series(name, least=WINDOW) for name in (key, f"{key}/low", f"{key}/high"))
    last = values.values[-steps:]
    deviations = [(b - a) / 2 / NORMAL_95 for a, b in zip(low.values[-steps:], high.values[-steps:], strict=True)]
    deviation = sum(one**2 for one in deviations) ** 0.5 / len(last)
    return sum(last) / len(last) - around, deviation, (values.steps[-steps:][0], values.steps[-1])
