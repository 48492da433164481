"""What is under the algorithm: arithmetic, updates, speed."""

from fipo.doctor.findings import Finding
from fipo.doctor.run.history import WINDOW, History

# Rounding makes some 1e-6 in float32 and some 1e-2 in bfloat16; fipo doctor RECIPE.toml warns from the same value.
GAP = 0.02  # nats per token
BROKEN_GAP = 0.5  # a ratio off by half on the average token: two different models
SLOW = 0.5  # of the best ten steps; in healthy runs of ours on a shared CPU it never fell below 0.9
PHASES = ("generate", "grade", "old_logprobs", "reference", "update")


def sampler_gap(history: History) -> Finding | None:
    """The sampler's log-probs are not the trainer's, so its responses are off-policy."""
    gaps = history.series("rollout/logprob_gap/mean", least=WINDOW).trailing()
    steps = gaps.since(lambda gap: gap > GAP)
    if steps is None:
        return None
    corrected = history.setting("objective", "importance_weight_cap") is not None
    severe = gaps.values[-1] > BROKEN_GAP
    return Finding(
        level="problem" if severe else "note" if corrected else "warning",
        steps=steps,
        text=f"log-probs of sampler and trainer differ by {gaps.values[-1]:.2g} nats per token on average"
        + (" (importance weights correct for it)" if corrected else ""),
        advice='objective.importance_weight_cap = 2.0, or model.dtype = "float32"',
    )


def skipped_updates(history: History) -> Finding | None:
    """Updates with a loss or gradient that was not finite, or steps without any update."""
    skipped = history.series("update/skipped")
    losses = history.series("policy/loss")
    bad = [step for step, count in zip(skipped.steps, skipped.values, strict=True) if count]
    empty = sorted(set(skipped.steps) - set(losses.steps))
    affected = sorted({*bad, *empty})
    if not affected:
        return None
    total, budget = sum(skipped.values), history.setting("update", "max_skipped")
    over = budget is not None and total > budget
    return Finding(
        level="problem" if over else "warning",
        steps=(affected[0], affected[-1]),
        text=f"updates skipped because their loss or gradient was not finite: {total:.0f}"
        + (f" (update.max_skipped is {budget})" if budget is not None else "")
        + f"; steps without any update: {len(empty)}",
        advice="the batches in anomalies/; a smaller update.learning_rate or update.max_grad_norm; "
        'model.dtype = "float32"',
    )


def throughput_drop(history: History) -> Finding | None:
    """The same machine does half the work."""
    rates = history.series("time/tokens_per_second", least=2 * WINDOW).trailing()
    best, at = max(zip(rates.values, rates.steps, strict=True))
    steps = rates.from_step(at).since(lambda rate: rate < SLOW * best)
    if steps is None:
        return None
    now, then = _phase_seconds(history, rates.steps[-1]), _phase_seconds(history, at)
    grown = max(now, key=lambda phase: now[phase] - then.get(phase, 0.0), default=None)
    return Finding(
        level="warning",
        steps=steps,
        text=f"{rates.values[-1]:,.0f} tokens per second, {best:,.0f} at step {at}"
        + (f"; time/{grown} went from {then.get(grown, 0.0):.1f} to {now[grown]:.1f} s" if grown else ""),
        advice="what else runs on this machine (GPU memory, CPU cores for the graders, disk); rollout.decode_batch if "
        "responses have grown",
    )


def _phase_seconds(history: History, step: int) -> dict[str, float]:
    """Seconds by phase: the median of the ten steps up to `step`."""
    recorded = [phase for phase in PHASES if any(f"time/{phase}" in line for line in history.training)]
    upto = [line for line in history.training if line["step"] <= step][-WINDOW:]
    seconds = {phase: sorted(line.get(f"time/{phase}", 0.0) for line in upto) for phase in recorded}
    return {phase: values[len(values) // 2] for phase, values in seconds.items()}
