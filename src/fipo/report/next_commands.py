"""What to look at after a run: three commands."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from fipo.errors import UserError
from fipo.recipe.packaged import FOLDER
from fipo.report.credit_sample import first_rollout
from fipo.telemetry.run_directory import RunDirectory
from fipo.telemetry.terminal import called_as

LONGEST = 60  # characters of a prompt that one would type


def next_commands(run: RunDirectory, recipe: Path, overrides: Mapping[str, str]) -> list[tuple[str, str]]:
    """Three (command, what it is for), to be pasted: ask the model, examine the run, compare it."""
    path, program = shlex.quote(str(run.path)), called_as(sys.argv[0])
    return [
        (f"{program} sample {path} {shlex.quote(_prompt(run))}", "ask the trained model"),
        (f"{program} doctor {path}", "what its metrics say"),
        _comparison(run, recipe, overrides, program),
    ]


def _comparison(run: RunDirectory, recipe: Path, overrides: Mapping[str, str], program: str) -> tuple[str, str]:
    """With the run of the same name with or without `_dapo`, if it is there; else how to make it, as this one was."""
    name = run.path.name.removesuffix("_dapo")
    pair = [run.path.with_name(name), run.path.with_name(f"{name}_dapo")]
    twin = recipe.with_name(f"{recipe.stem}_dapo.toml")
    if all((path / "config.toml").is_file() for path in pair):
        both = " ".join(shlex.quote(str(path)) for path in pair)
        return f"{program} report {both} --out both.html", "with DAPO and without, in one page"
    if not twin.is_file():
        return f"{program} report {shlex.quote(str(run.path))} ANOTHER_RUN --out both.html", "two runs in one page"
    words = [twin.stem if twin.parent == FOLDER else str(twin)]  # a packaged one goes by its name
    for key, value in overrides.items():
        if not key.startswith("objective."):
            words += [f"--{key}", f"{value}_dapo" if key == "run.name" else value]
    return f"{program} train {shlex.join(words)}", "the same with DAPO, to compare with"


def _prompt(run: RunDirectory) -> str:
    """One that the run was trained on, if it can be typed: without a template or examples around it."""
    data = run.read_config().get("data", {})
    try:
        record = None if data.get("prompt_format") == "chat" or data.get("examples") else first_rollout(run)
    except UserError:
        record = None
    prompt = record.get("prompt", "") if record else ""
    return prompt if 0 < len(prompt) <= LONGEST and prompt.isprintable() else "YOUR QUESTION"
