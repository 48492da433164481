"""Copies of the files in `files/`, in the user's folder."""

import shlex
import sys
from pathlib import Path

from fipo.errors import UserError
from fipo.telemetry.terminal import called_as

FILES = Path(__file__).parent / "files"
NAMES = ("my_recipe.toml", "my_reward.py", "train.jsonl", "eval.jsonl")


def write_starter(folder: Path) -> list[Path]:
    """The paths that were written. Raises UserError, and writes nothing, if one of them is there already."""
    targets = [folder / name for name in NAMES]
    taken = [path for path in targets if path.exists()]
    if taken:
        raise UserError(f"{taken[0]}: is there already, and fipo init overwrites nothing; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for path in targets:
        path.write_bytes((FILES / path.name).read_bytes())
    return targets


def next_steps(folder: Path) -> str:
    """What to type now."""
    into = "" if folder == Path(".") else f"cd {shlex.quote(str(folder))}\n    "
    fipo = called_as(sys.argv[0], folder)
    return (
        "now, with the model that comes with fipo, on a CPU:\n\n"
        f"    {into}{fipo} doctor my_recipe.toml     # is it all right? what will it cost?\n"
        f"    {fipo} train my_recipe.toml      # a minute or two\n"
        f"    {fipo} report runs/my_run        # the page that training leaves, once more\n\n"
        "then change the reward, the data and the model, one at a time: my_recipe.toml says how"
    )
