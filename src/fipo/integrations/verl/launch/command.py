"""`fipo launch`: the command of a job, printed or submitted."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from fipo.doctor.findings import gravest_first
from fipo.doctor.show import finding_lines
from fipo.errors import UserError
from fipo.integrations.verl.launch.estimate import described
from fipo.integrations.verl.launch.keys import overrides_of
from fipo.integrations.verl.launch.objective import knobs_of
from fipo.integrations.verl.launch.outlook import outlook
from fipo.integrations.verl.launch.recipe import Destination, LaunchRecipe, load_launch_recipe, place_of
from fipo.integrations.verl.launch.rehearse import rehearse
from fipo.integrations.verl.launch.submit import submit
from fipo.integrations.verl.lengths import check_lengths


def launch(
    path: Path,
    overrides: dict[str, str],
    environment: Mapping[str, str],
    *,
    dry_run: bool = False,
    rehearsal: Path | None = None,
    ranks: int = 1,
) -> None:
    """Print what the job asks of its GPUs, then its `ray job submit` command, or submit it and follow its log.

    rehearsal: a folder to rehearse the job in instead, on `ranks` CPU ranks.

    Raises UserError for a mistake in the recipe, RunStopped for a job that failed or is no longer followed.
    """
    recipe, place, lines = load_job(path, overrides, environment)
    entry = ["python3", "-m", recipe.job.entry_point]
    findings = gravest_first(outlook(recipe, place, environment)) if dry_run else []
    for line in described(recipe):
        print(f"# {line}" if dry_run else line)
    if dry_run:
        for finding in findings:
            print("\n".join(f"# {line}" for line in finding_lines(finding)))
        print(shell_command(place, entry, lines))
    elif rehearsal is not None:
        rehearse(lines, rehearsal / recipe.job.name, ranks)
    else:
        submit(place, shlex.join([*entry, *lines]))


def load_job(
    path: Path, overrides: dict[str, str], environment: Mapping[str, str]
) -> tuple[LaunchRecipe, Destination, list[str]]:
    """The recipe, where it is submitted to, and verl's overrides. Raises UserError for a mistake in any of them."""
    recipe = load_launch_recipe(path, overrides, environment)
    place = place_of(path, environment)
    lines = overrides_of(recipe)
    check(recipe)
    return recipe, place, lines


def check(recipe: LaunchRecipe) -> None:
    """What can be known before anything is reserved. Raises UserError with one line."""
    knobs_of(recipe)
    try:
        check_lengths(recipe.value, recipe.job.model)
    except ValueError as error:
        raise UserError(f"verl.{error}") from None


def shell_command(place: Destination, entry: list[str], overrides: list[str]) -> str:
    """The `ray job submit` command, one override a line."""
    options = [f"--address={place.address}", f"--working-dir={place.working_dir}"]
    if place.runtime_env:
        options.append(f"--runtime-env={place.runtime_env}")
    words = [shlex.join(["ray", "job", "submit", *options]), f"-- {shlex.join(entry)}", *map(shlex.quote, overrides)]
    return " \\\n  ".join(words)
