"""What a rehearsal left, and what it shows: FIPO at work, dynamic sampling, the overlong penalty, a resumed start."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fipo.telemetry.lines import whole_lines

Step = Mapping[str, float]


def done_steps(folder: Path) -> int:
    """Training steps that are done: in a whole checkpoint, and with their metrics, which verl writes behind it.

    A checkpoint whose metrics were lost is forgotten, so that its step is done again.
    """
    newest = folder / "checkpoints" / "latest_checkpointed_iteration.txt"
    try:
        saved = int(newest.read_text())
    except (OSError, ValueError):
        return 0
    measured = max((step for start in starts_of(folder) for step in _trained(start) if step <= saved), default=0)
    if measured == 0:
        newest.unlink()
    elif measured < saved:
        newest.write_text(str(measured))
    return measured


def starts_of(folder: Path) -> list[dict[int, dict[str, Any]]]:
    """The metrics of each start of the job, by step."""
    paths = sorted((folder / "checkpoints").glob("metrics_*.jsonl"))
    starts = [[json.loads(line) for line in whole_lines(path)] for path in paths]
    return [{line["step"]: line["data"] for line in lines} for lines in starts]


def _trained(start: Mapping[int, Step]) -> list[int]:
    """The training steps of a start, which also has the evaluation that it began with."""
    return sorted(step for step, values in start.items() if "actor/grad_norm" in values)


def summary(folder: Path) -> list[str]:
    """Twelve lines."""
    starts = starts_of(folder)
    steps: dict[int, dict[str, Any]] = {}
    for start in starts:
        for step, values in start.items():
            steps.setdefault(step, {}).update(values)
    training = (steps[1], steps[2])
    resumed = _trained(starts[-1]) == [2]
    validated = ", ".join(f"step {step} {_accuracy(values)}" for step, values in sorted(steps.items()))
    return [
        f"rehearsal of {folder.name}: two steps through verl's own trainer, nothing failed",
        f"resume: {'the last start went on behind the checkpoint of step 1' if resumed else 'NOT SEEN'}",
        f"groups: {_each(training, _groups)}",
        f"reward: {_number(training, 'reward/mean')}; of it overlong penalty: {_number(training, 'reward/overlong')}",
        f"grades: correct {_number(training, 'accuracy/mean')}; failed {_number(training, 'grade/failed')}",
        f"validation accuracy: {validated}",
        f"weights f by mini-batch, mean +- sd: step 1: {_weights(steps[1])}",
        f"weights f by mini-batch, mean +- sd: step 2: {_weights(steps[2])}",
        f"exp(FutureKL): {_each(training, _range)}; share beyond the bounds of f: {_each(training, _bounded)}",
        f"share of tokens clipped: {_number(training, 'actor/policy/clip_fraction')}; kept by the filter of sequences: "
        f"{_number(training, 'actor/fipo/kept_token_share')}",
        f"gradient norm: {_number(training, 'actor/grad_norm')}; largest gap of sampler and trainer, nats a token: "
        f"{_number(training, 'actor/rollout/logprob_gap/max')}",
        f"seconds: {_number(training, 'timing_s/step')}; metrics, checkpoints and the log are in {folder}",
    ]


def _each(steps: Sequence[Step], text: Callable[[Step], str]) -> str:
    return ", ".join(map(text, steps))


def _number(steps: Sequence[Step], key: str) -> str:
    return _each(steps, lambda step: f"{step[key]:.3g}" if key in step else "none")


def _groups(step: Step) -> str:
    return (
        f"{step['groups/generated']:g} generated for {step['groups/kept']:g} kept "
        f"({step['groups/all_wrong']:g} all wrong, {step['groups/all_correct']:g} all right)"
    )


def _accuracy(step: Step) -> str:
    return next((f"{value:.0%}" for key, value in step.items() if key.startswith("val-core/")), "none")


def _weights(step: Step) -> str:
    found: list[str] = []
    while (stem := f"actor/fipo/mini_batch_{len(found)}/influence_weight") + "/mean" in step:
        found.append(f"{step[stem + '/mean']:.4f} +- {step[stem + '/std']:.4f}")
    return ", ".join(found)


def _range(step: Step) -> str:
    low, high = (step[f"actor/fipo/raw_influence_weight/{name}"] for name in ("min", "max"))
    return f"{low:.3g} to {high:.3g}"


def _bounded(step: Step) -> str:
    low, high = (step[f"actor/fipo/influence_weight/clipped_{name}"] for name in ("low", "high"))
    return f"{low + high:.3g}"
