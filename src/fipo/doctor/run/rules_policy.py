"""The policy: entropy, response length, and the updates that break them."""

from statistics import median

from fipo.doctor.findings import CannotTell, Finding
from fipo.doctor.run.history import WINDOW, History

# Chosen: healthy runs of ours have no dual-clipped token at all, and in a small batch one token is 2e-4 of them.
SPIKE_FLOOR = 1e-3  # of trained tokens
SPIKE_FACTOR = 10.0  # over the median of the steps before
BEFORE_SPIKE = 20  # steps before a spike that the median is of
# A run may learn to be brief: half of the longest counts with a lower accuracy alone.
COLLAPSED_LENGTH = 0.5
WORSE = 0.05  # accuracy; the median of ten steps of 24 groups x 8 varies by about 0.02
# Healthy runs of ours end at about half of the entropy of their first ten steps.
COLLAPSED_ENTROPY = 0.1
# Theirs never rises; both must hold, since three times 0.01 nats is still nothing.
EXPLODED_ENTROPY = 3.0  # times that of the first steps
EXPLODED_NATS = 0.5  # above it
STALL = 50  # steps: in as many, with 4 mini-batches at 5e-5, the quickstart doubled its accuracy and grew by half
STALLED_LENGTH = 0.05  # of the length before: the noise of the median of as many steps is less
SOLVED = 0.9  # accuracy from which standing still is success


def dual_clip_spike(history: History) -> Finding | None:
    """Bursts of dual-clipped tokens, which in the paper's Fig. 2 precede a collapse of the length."""
    shares = history.series("policy/dual_clip_fraction", least=BEFORE_SPIKE + 1)
    calm = [median(shares.values[i - BEFORE_SPIKE : i]) for i in range(BEFORE_SPIKE, len(shares.values))]
    later = list(zip(shares.steps, shares.values, strict=True))[BEFORE_SPIKE:]
    spikes = [
        (step, share)
        for (step, share), before in zip(later, calm, strict=True)
        if share > max(SPIKE_FLOOR, SPIKE_FACTOR * before)
    ]
    if not spikes:
        return None
    step, share = max(spikes, key=lambda spike: spike[1])
    collapse = _length_collapse(history)
    collapsed = collapse is not None and collapse[0] >= spikes[0][0]
    return Finding(
        level="problem" if collapsed else "warning",
        steps=(spikes[0][0], spikes[-1][0]),
        text=f"policy/dual_clip_fraction jumped in {len(spikes)} of {len(shares.steps)} steps, to {share:.2%} at "
        f"step {step}, more than {SPIKE_FACTOR:g} times the steps before it: updates that made bad tokens far likelier"
        + (", and the response length collapsed afterwards" if collapsed else ""),
        advice="a smaller update.learning_rate, fewer update.mini_batches, objective.max_dual_clipped_tokens = 1, "
        "objective.safety_threshold = 3; go on from a checkpoint before the first one",
    )


def length_collapse(history: History) -> Finding | None:
    """Responses became half as long, and worse."""
    steps = _length_collapse(history)
    if steps is None:
        return None
    lengths, success = history.series("response_length/mean"), history.success()
    longest = lengths.trailing()
    peak = max(zip(longest.values, longest.steps, strict=True))
    return Finding(
        level="problem",
        steps=steps,
        text=f"response_length/mean fell from {peak[0]:.0f} tokens at step {peak[1]} to {lengths.last():.0f}, and "
        f"{success.key} is {success.last():.2f}",
        advice="go on from a checkpoint before it with a smaller update.learning_rate; objective.clip_low and "
        "objective.max_dual_clipped_tokens decide how hard bad tokens are pushed",
    )


def _length_collapse(history: History) -> tuple[int, int] | None:
    """Steps up to now with half of the longest length or less and a lower success than at that length."""
    lengths = history.series("response_length/mean", least=2 * WINDOW).trailing()
    success = history.success(least=2 * WINDOW).trailing()
    longest, at = max(zip(lengths.values, lengths.steps, strict=True))
    after = lengths.from_step(at)
    steps = after.since(lambda length: length < COLLAPSED_LENGTH * longest)
    then = success.from_step(at).values
    return steps if steps and then and then[-1] < then[0] - WORSE else None


def entropy_collapse(history: History) -> Finding | None:
    """The policy has stopped to explore."""
    entropy = history.series("policy/entropy", least=2 * WINDOW)
    start, now = entropy.first(), entropy.trailing()
    steps = now.since(lambda value: value < COLLAPSED_ENTROPY * start)
    if steps is None:
        return None
    return Finding(
        level="warning",
        steps=steps,
        text=f"policy/entropy is {now.values[-1]:.2g} nats, {now.values[-1] / start:.0%} of the {start:.2g} of "
        "the first steps: the responses to a problem are nearly the same, and little is left to learn from",
        advice="a larger objective.clip_high, a smaller update.learning_rate, rollout.temperature = 1.0, harder "
        "problems",
    )


def entropy_explosion(history: History) -> Finding | None:
    """The policy falls apart into noise."""
    entropy = history.series("policy/entropy", least=2 * WINDOW)
    start, now = entropy.first(), entropy.trailing()
    steps = now.since(lambda value: value > max(EXPLODED_ENTROPY * start, start + EXPLODED_NATS))
    if steps is None:
        return None
    return Finding(
        level="problem",
        steps=steps,
        text=f"policy/entropy is {now.values[-1]:.2g} nats, up from {start:.2g} in the first steps: "
        "responses turn into noise",
        advice="go on from a checkpoint before it with a smaller update.learning_rate or objective.clip_high; "
        "look at rollout/logprob_gap",
    )


def length_stall(history: History) -> Finding | None:
    """Neither the length nor the accuracy has moved for long."""
    lengths, success = history.series("response_length/mean", least=2 * STALL), history.success(least=2 * STALL)
    if success.last(STALL) > SOLVED:
        raise CannotTell(f"{success.key} is {success.last(STALL):.2f}: little is left to gain")
    before, now = median(lengths.values[-2 * STALL : -STALL]), lengths.last(STALL)
    gain = success.last(STALL) - median(success.values[-2 * STALL : -STALL])
    if abs(now / before - 1) > STALLED_LENGTH or abs(gain) > WORSE / 2:
        return None
    return Finding(
        level="warning",
        steps=(lengths.steps[-2 * STALL], lengths.steps[-1]),
        text=f"response_length/mean stays at {now:.0f} tokens ({now / before - 1:+.1%} in {STALL} steps) and "
        f"{success.key} at {success.last(STALL):.2f} ({gain:+.3f})",
        advice="a DAPO run to compare with; a larger update.learning_rate, a longer rollout.max_response_tokens, or "
        "other problems; a larger objective.half_life last, as it dilutes what a token's own log-ratio says",
    )
