"""What to look at after a run: three commands."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from fipo.errors import UserError
from fipo.recipe.packaged import FOLDER
from fipo.report.credit_sample import first_rollout
from fipo.telemetry.run_directory import RunDirectory

LONGEST = 60  # characters of a prompt that one would type


def next_commands(run: RunDirectory, recipe: Path) -> list[tuple[str, str]]:
    """Three (command, what it is for), to be pasted: ask the model, examine the run, compare it."""
    path, program = shlex.quote(str(run.path)), called_as(sys.argv[0])
    twin = recipe.with_name(f"{recipe.stem}_dapo.toml")
    other = run.path.with_name(run.path.name.removesuffix("_dapo"))
    if other != run.path and (other / "config.toml").is_file():
        both = f"{shlex.quote(str(other))} {path}"
        compare = (f"{program} report {both} --out both.html", "beside its twin, in one page")
    elif twin.is_file():
        called = twin.stem if twin.parent == FOLDER else str(twin)  # a packaged one goes by its name
        compare = (f"{program} train {shlex.quote(called)}", "the same with DAPO, to compare with")
    else:
        compare = (f"{program} report {path} ANOTHER_RUN --out both.html", "two runs in one page")
    return [
        (f"{program} sample {path} {shlex.quote(_prompt(run))}", "ask the trained model"),
        (f"{program} doctor {path}", "what its metrics say"),
        compare,
    ]


def called_as(program: str, folder: Path = Path()) -> str:
    """How the user calls `fipo`, once in `folder`: by its name where that finds it, else by the path of it."""
    if Path(program).name != "fipo" or shutil.which("fipo") == program:
        return "fipo"
    path = Path(program)
    near = not path.is_absolute() or path.is_relative_to(Path.cwd())
    return shlex.quote(os.path.relpath(path, folder) if near else str(path))


def _prompt(run: RunDirectory) -> str:
    """One that the run was trained on, if it can be typed: without a template or examples around it."""
    data = run.read_config().get("data", {})
    try:
        record = None if data.get("prompt_format") == "chat" or data.get("examples") else first_rollout(run)
    except UserError:
        record = None
    prompt = record.get("prompt", "") if record else ""
    return prompt if 0 < len(prompt) <= LONGEST and prompt.isprintable() else "YOUR QUESTION"
