"""`fipo doctor RECIPE.toml`: one look at everything that can be known before a run begins."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from fipo.data.problem import Problem
from fipo.doctor.findings import Finding, counted
from fipo.doctor.recipe.fit import Fit
from fipo.doctor.recipe.machine import machine, own_memory
from fipo.doctor.recipe.memory import CUDA_CONTEXT
from fipo.doctor.recipe.outline import outline_of
from fipo.doctor.recipe.probe import Probe, probe
from fipo.doctor.recipe.samples import gap_findings, sample_findings
from fipo.doctor.recipe.settings import setting_findings
from fipo.doctor.recipe.show import count, show_findings, show_memory, show_samples, show_times
from fipo.doctor.recipe.surroundings import OVERLAP, disk_findings, overlap_findings, position_findings, problems_of
from fipo.doctor.recipe.timing import loss_findings, times
from fipo.doctor.show import show_line
from fipo.hub import OutOfReach
from fipo.models.loading import device_of, dtype_of
from fipo.telemetry.progress import PatientConsole
from fipo.training.recipe import Recipe, load_recipe, with_found_model

PROBLEMS = 8  # that are sampled
RESPONSES = 4  # to each of them


@dataclass(frozen=True, kw_only=True)
class Options:
    samples: bool = True  # load the model, let it answer, and time it
    memory_gib: float | None = None  # of a CUDA device that is not here; without samples then


def diagnose(path: Path, overrides: dict[str, str], options: Options) -> int:
    """Print what is known of a recipe; 2 if the run cannot do what it is for, else 0.

    Raises UserError, one line, for a recipe that `fipo train` would refuse.
    """
    recipe = with_found_model(load_recipe(path, overrides))
    console = PatientConsole()
    device = _device(recipe, options)
    findings = setting_findings(recipe, device)
    show_findings(console, findings)
    said: list[str] = []
    train, held_out = _problems(recipe, options, said)
    fit = _fit(recipe, options, device, len(held_out))
    outline = fit.outline
    show_line(
        console,
        f"{path}: {outline.architecture}, {count(outline.parameters)} weights, {count(outline.trainable)} of them "
        f"trained, on {device.type} in {dtype_of(recipe.model.dtype, device)}".replace("torch.", ""),
    )
    around = [Finding(level="note", keys=(), text=line) for line in said]
    around += position_findings(recipe, outline) + overlap_findings(train, held_out) + disk_findings(recipe, outline)
    show_findings(console, around)
    show_memory(console, fit)
    tight = fit.findings()
    show_findings(console, tight)
    findings += around + tight
    stops = any(finding.level == "problem" for finding in findings)
    if options.samples and options.memory_gib is None and not stops:
        with _status(console) as progress:
            found = probe(recipe, problems=PROBLEMS, samples=RESPONSES, progress=progress)
        findings += _show_probe(console, recipe, found, said)
    else:
        console.print("not sampled and not timed: the model was not loaded")
    console.print(verdict(findings))
    return 2 if any(finding.level == "problem" for finding in findings) else 0


def _problems(recipe: Recipe, options: Options, said: list[str]) -> tuple[list[Problem], list[Problem]]:
    """Those of the recipe; none of a hub that is out of reach, where the question is memory alone."""
    try:
        return problems_of(recipe, said.append)
    except OutOfReach as error:
        if options.samples and options.memory_gib is None:
            raise
        said.append(f"the problems were not looked at: {error}")
        return [], []


def _device(recipe: Recipe, options: Options) -> torch.device:
    """That of the run; with `memory_gib` a CUDA device that is not here."""
    if options.memory_gib is not None:
        return torch.device("cuda")
    return device_of(recipe.run.device, key="run.device")


def _fit(recipe: Recipe, options: Options, device: torch.device, eval_problems: int) -> Fit:
    return Fit(
        recipe=recipe,
        outline=outline_of(recipe.model.path, dtype_of(recipe.model.dtype, device), recipe.model.lora),
        machine=machine(device, options.memory_gib),
        eval_problems=eval_problems,
        process=own_memory() if device.type == "cpu" else CUDA_CONTEXT,
    )


def _show_probe(console: Console, recipe: Recipe, found: Probe, said: Sequence[str]) -> list[Finding]:
    """Samples, times, and what they give rise to; the setup repeats what was `said` of the problems."""
    known = {*said, *(f"note: {note}" for note in recipe.objective.algorithm().notes())}
    new = [line for line in found.said if line not in known and OVERLAP not in line]
    findings = [Finding(level="note", keys=(), text=line.removeprefix("note: ")) for line in new]
    show_samples(console, found)
    findings += sample_findings(recipe, found.groups, found.figures) + gap_findings(recipe, found.logprob_gap)
    low, high = (
        times(recipe, found.speeds, found.figures, found.eval_problems, pessimistic=pessimistic)
        for pessimistic in (False, True)
    )
    findings += loss_findings(recipe, low)
    show_findings(console, findings)
    show_times(console, recipe, low, high)
    show_line(
        console,
        f"based on {found.figures.responses} responses, on decoding at two batch sizes and on two small training "
        "steps, all timed here and now; checkpoints are not counted",
    )
    return findings


def verdict(findings: Sequence[Finding]) -> str:
    """`nothing stops this run: 1 warning, 2 notes`."""
    said = counted(finding for finding in findings if finding.level != "problem")
    if any(finding.level == "problem" for finding in findings):
        return "this run cannot succeed as it stands" + (f" ({said} besides)" if said else "")
    return f"nothing stops this run: {said}" if said else "nothing stops this run"


@contextmanager
def _status(console: Console) -> Iterator[Callable[[str], None]]:
    """Shows what is being done, in a terminal; in a file nothing."""
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("loading") as status:
        yield status.update
