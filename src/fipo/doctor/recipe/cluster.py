"""`fipo doctor RECIPE.toml` for a recipe that `fipo launch` submits: what the job needs and what it will meet."""

from collections.abc import Mapping
from pathlib import Path

from fipo.doctor.recipe.diagnosis import verdict
from fipo.doctor.recipe.show import show_findings
from fipo.integrations.verl.launch.command import load_job
from fipo.integrations.verl.launch.estimate import described
from fipo.integrations.verl.launch.outlook import outlook
from fipo.recipe.toml import read_recipe
from fipo.telemetry.progress import PatientConsole


def is_job(path: Path) -> bool:
    """Is it a recipe for a cluster? Raises UserError for a file that is none at all."""
    return "job" in read_recipe(path, {})


def diagnose_job(path: Path, overrides: dict[str, str], environment: Mapping[str, str]) -> int:
    """Print what is known of a job; 2 if it cannot do what it is for, else 0.

    Raises UserError, one line, for a recipe that `fipo launch` would refuse.
    """
    recipe, place, _ = load_job(path, overrides, environment)
    console = PatientConsole()
    for line in described(recipe):
        console.print(line, soft_wrap=True)
    findings = outlook(recipe, place, environment)
    show_findings(console, findings)
    console.print(f"{verdict(findings)}; a CPU can try it: fipo launch {path} --rehearse", soft_wrap=True)
    return 2 if any(finding.level == "problem" for finding in findings) else 0
