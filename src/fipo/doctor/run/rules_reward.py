"""The reward: is it earned, and is there something to learn from?"""

from fipo.doctor.findings import CannotTell, Finding, Level
from fipo.doctor.run.history import WINDOW, History, Series

LOST_SUCCESS = 0.15  # of accuracy: the ten-step median of healthy runs of ours never fell by more than 0.02
RISEN = 0.02  # of success in training, beyond which it counts as risen: the noise of a ten-step median
LOST_HELD_OUT = 0.05  # accuracy on held-out problems, where there is no interval to compare
TRUNCATED = 0.2  # share of responses, chosen; below 6% in healthy runs of ours
NO_ANSWER = 0.2  # share, chosen; below 1% there
GAMED = 0.1  # more of it than in the first steps: the run has made it worse
DEAD = 0.75  # share of groups: the published generation batches are 3 to 4 times the train batch
FAILED, MANY_FAILED = 0.01, 0.05  # share of grades: a few are an odd answer, 5% are a reward of their own


def reward_collapse(history: History) -> Finding | None:
    """The run has forgotten what it could."""
    success = history.success(least=2 * WINDOW).trailing()
    best, at = max(zip(success.values, success.steps, strict=True))
    steps = success.from_step(at).since(lambda value: value < best - LOST_SUCCESS)
    if steps is None:
        return None
    return Finding(
        level="problem",
        steps=steps,
        text=f"{success.key} fell from {best:.2f} at step {at} to {success.values[-1]:.2f}",
        advice="go on from the best checkpoint with a smaller update.learning_rate or fewer update.mini_batches",
    )


def reward_hacked(history: History) -> Finding | None:
    """Training pays more and more for answers that are worse on held-out problems."""
    success = history.success(least=2 * WINDOW).trailing()
    evaluations = [line for line in history.evaluations if line["step"] >= success.steps[0]]
    if len(evaluations) < 2:
        raise CannotTell(f"{len(evaluations)} of the 2 evaluations after step {WINDOW} that it takes")
    best, now = max(evaluations, key=lambda line: line["eval/avg_at_k"]), evaluations[-1]
    then = success.from_step(int(best["step"]))
    gain = success.values[-1] - then.values[0] if then.values else 0.0
    if gain < RISEN or not _clearly_below(now, best):
        return None
    return Finding(
        level="problem",
        steps=(int(best["step"]), int(now["step"])),
        text=f"eval/avg_at_k fell from {best['eval/avg_at_k']:.3f} to {now['eval/avg_at_k']:.3f} while "
        f"{success.key} rose by {gain:.2f}: the run learns the training problems or the grader, not the task",
        advice=f"the checkpoint of step {best['step']}; read the best paid responses in rollouts/; more problems, a "
        "stricter data.grader",
    )


def _clearly_below(now: dict[str, float], best: dict[str, float]) -> bool:
    """Whether the present rate is below the best: by their intervals, or by 0.05 where there are none."""
    high, low = now.get("eval/ci/avg_at_k/high"), best.get("eval/ci/avg_at_k/low")
    if high is None or low is None:
        return now["eval/avg_at_k"] < best["eval/avg_at_k"] - LOST_HELD_OUT
    return high < low


def truncation(history: History) -> Finding | None:
    """Responses run into the limit; worse where the run has learned to, for a truncated one may cost nothing."""
    shares = history.series("response_length/truncated", least=2 * WINDOW)
    masked = history.setting("reward", "mask_truncated", default=False)
    why = "with reward.mask_truncated they cost nothing: " if masked else ""
    return _grown_share(
        shares,
        TRUNCATED,
        f"of the responses are cut off at the limit; {why}",
        "a longer rollout.max_response_tokens; reward.overlong_buffer, so that length costs before the limit; "
        + ("reward.mask_truncated = false; " if masked else "")
        + "rollout.stop, if the model does not stop by itself",
    )


def format_lost(history: History) -> Finding | None:
    """Responses from which no answer can be read."""
    shares = history.series("grade/no_answer", least=2 * WINDOW)
    return _grown_share(
        shares,
        NO_ANSWER,
        "of the responses hold no answer that the grader can read; ",
        "read them in rollouts/ (outcome no_answer); a data.grader and a data.prompt_format that fit; if it came in "
        "training, a smaller update.learning_rate from an earlier checkpoint",
    )


def _grown_share(shares: Series, limit: float, what: str, advice: str) -> Finding | None:
    """A share beyond `limit` now: a warning; a problem if the run has made it so."""
    now, start = shares.trailing(), shares.first()
    steps = now.since(lambda share: share > limit)
    if steps is None:
        return None
    grown = now.values[-1] > start + GAMED
    level: Level = "problem" if grown else "warning"
    before = f"{start:.0%} in the first steps" + (", so training teaches it" if grown else "")
    return Finding(level=level, steps=steps, text=f"{now.values[-1]:.0%} {what}{before}", advice=advice)


def dead_groups(history: History) -> Finding | None:
    """Most groups have no contrast, or a step is not filled."""
    generated, kept = history.series("groups/generated", least=WINDOW), history.series("groups/kept")
    numbers = history.rewards_are_numbers
    dead = history.summed(["groups/constant"] if numbers else ["groups/all_correct", "groups/all_wrong"], least=WINDOW)
    shares = Series("", dead.steps, [d / max(g, 1) for d, g in zip(dead.values, generated.values, strict=False)])
    wanted = history.setting("rollout", "groups", default=max(kept.values))
    short = kept.trailing().since(lambda groups: groups < wanted)
    steps = short or shares.trailing().since(lambda share: share > DEAD)
    if steps is None:
        return None
    wrong, right = (history.series(f"groups/all_{kind}").last() for kind in ("wrong", "correct"))
    alike = f"{wrong:.0f} are all wrong and {right:.0f} all correct"
    if numbers:
        alike = f"{dead.last():.0f} have one reward alone"
    batches = history.series("groups/generation_batches").last()
    return Finding(
        level="problem" if not kept.last() else "warning",
        steps=steps,
        text=f"of {generated.last():.0f} groups in {batches:.0f} generation batches "
        f"{alike}; {kept.last():.0f} of {wanted:.0f} are trained on",
        advice=("easier problems" if wrong > right else "harder problems")
        + ", a larger rollout.group_size, a larger rollout.generation_batch",
    )


def grader_failures(history: History) -> Finding | None:
    """Answers that the grader could not grade in time, or that it died of."""
    errors = history.run.read_failures()
    if errors and errors[-1]["all_failed"] and errors[-1]["step"] >= history.last_step:
        step = int(errors[-1]["step"])
        return Finding(
            level="problem",
            steps=(step, step),
            text=f"{errors[-1]['what']}: the run stopped there",
            advice="mend the grader (docs/graders.md), then the command of the run with --resume",
        )
    failed = history.summed(["grade/timeout", "grade/crash"])
    worst = max(failed.values)
    if len(failed.values) >= WINDOW:
        worst = max(sum(failed.values[i : i + WINDOW]) / WINDOW for i in range(len(failed.values) - WINDOW + 1))
    if worst <= FAILED:
        return None
    count = sum(line.get("grade/failed", 0) for line in history.training)
    affected = [step for step, share in zip(failed.steps, failed.values, strict=True) if share > 0]
    paid = history.setting("grading", "on_failure", default="zero") == "zero" and not history.rewards_are_numbers
    last = f"; in step {errors[-1]['step']}: {errors[-1]['what']}" if errors else ""
    return Finding(
        level="problem" if worst > MANY_FAILED else "warning",
        steps=(affected[0], affected[-1]),
        text=f"timeouts and crashes: {count:.0f}, {worst:.1%} of those in the worst "
        f"{min(WINDOW, len(failed.steps))} steps"
        + ("; each gets a reward of 0, which pays better than a wrong answer's -1" if paid else "")
        + last,
        advice='grading.on_failure = "drop_group", a longer grading.deadline_seconds, more grading.workers; the '
        "answers are in rollouts/ (outcome timeout or crash)",
    )
