"""What the doctor prints: plain lines and tables that read the same in a terminal and in a file."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from fipo.data.templates import bare_question
from fipo.doctor.findings import Finding, gravest_first
from fipo.doctor.recipe.fit import Fit
from fipo.doctor.recipe.machine import GIB
from fipo.doctor.recipe.probe import Probe
from fipo.doctor.recipe.timing import Times, duration
from fipo.doctor.show import show_finding, show_line
from fipo.rollout.groups import Group
from fipo.training.recipe import Recipe

CLIPPED = 100  # characters of a text that is shown
SHOWN_PROBLEMS = 8
SHOWN_RESPONSES = 2
MARKS = {"correct": "right", "wrong": "wrong", "no_answer": "no answer"}


def show_findings(console: Console, findings: Sequence[Finding]) -> None:
    for finding in gravest_first(findings):
        show_finding(console, finding)


def show_memory(console: Console, fit: Fit) -> None:
    """The parts of the peak, the largest first."""
    estimate, machine = fit.estimate, fit.machine
    phase, parts = estimate.phase
    console.print(f"memory on {machine.device.type}, estimated, at its peak in {phase}:")
    table = Table()
    table.add_column("")
    table.add_column("GiB", justify="right")
    for name, size in sorted((estimate.stays | parts).items(), key=lambda part: -part[1]):
        table.add_row(name, f"{size / GIB:.2f}")
    table.add_section()
    table.add_row("together", f"{estimate.peak / GIB:.2f}")
    table.add_row(f"there is ({machine.source})", f"{machine.memory / GIB:.2f}")
    console.print(table)


def show_samples(console: Console, probe: Probe) -> None:
    """Prompts with their responses and grades, long texts clipped, and the rates."""
    figures = probe.figures
    reward = "" if figures.reward is None else f", reward {figures.reward:.3g} on average"
    varying = "success" if figures.reward is None else "the reward"
    console.print(f"sampled: {len(probe.groups)} problems x {len(probe.groups[0].responses)} responses")
    for group in probe.groups[:SHOWN_PROBLEMS]:
        for line in _group_lines(group):
            console.print(line, soft_wrap=True)
    show_line(
        console,
        f"stopped by themselves {figures.stopped:.0%}, with an answer {figures.answered:.0%}, right "
        f"{figures.correct:.0%}{reward}, {figures.mean_length:.0f} tokens on average, {figures.longest} at most",
    )
    show_line(
        console,
        f"groups in which {varying} will vary: about {figures.mixed:.0%}; log-probs of sampler and trainer differ by "
        f"{probe.logprob_gap:.2g} on average",
    )


def _group_lines(group: Group) -> list[str]:
    lines = [f"  {clipped(bare_question(group.problem.text))}   (answer: {clipped(group.problem.answer)})"]
    members = list(zip(group.responses, group.texts, group.grades, strict=True))
    for response, text, grade in members[:SHOWN_RESPONSES]:
        end = ", cut off" if response.truncated else ""
        mark = MARKS.get(grade.outcome, f"{grade.outcome} ({grade.reason})")
        mark += "" if grade.score is None else f", reward {grade.score:.3g}"
        lines.append(f"    {mark}, {len(response.tokens)} tokens{end}: {clipped(text)}")
    return lines


def clipped(text: str) -> str:
    """One line of at most 100 characters: the beginning and the end, where the answer stands."""
    line = " ".join(text.split())
    if len(line) <= CLIPPED:
        return line
    return f"{line[: CLIPPED // 2 - 2]} ... {line[-(CLIPPED // 2 - 3) :]}"


def show_times(console: Console, recipe: Recipe, low: Times, high: Times) -> None:
    """From the lower to the upper end of the estimate."""
    console.print("time, estimated, while responses are like those above:")
    table = Table()
    table.add_column("")
    table.add_column("from", justify="right")
    table.add_column("to", justify="right")
    for name in low.step:
        table.add_row(f"a step: {name}", duration(low.step[name]), duration(high.step[name]))
    table.add_row("a step", duration(low.step_seconds), duration(high.step_seconds))
    table.add_row("an evaluation", duration(low.evaluation), duration(high.evaluation))
    table.add_section()
    steps = recipe.run.steps
    table.add_row(f"the run: {steps} steps", duration(low.run_seconds(recipe)), duration(high.run_seconds(recipe)))
    console.print(table)


def count(number: int) -> str:
    """`791,168`, `134.5M`, `7.6B`."""
    for size, unit in ((10**9, "B"), (10**6, "M")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return f"{number:,}"
