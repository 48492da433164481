"""reasoning-gym's entries, made in a process of their own: `python -P -m fipo.data.made.gym SETTINGS`.

What some tasks draw depends on the order of a set, and so on PYTHONHASHSEED, which only a new process can fix. With
it the same seed gives the same questions in every run.
"""

import json
import os
import subprocess
import sys
from typing import Any

from fipo.errors import UserError
from fipo.extras import install_hint


def gym_entries(task: str, size: int, seed: int, options: dict[str, Any]) -> list[tuple[str, str]]:
    """(question, answer) of each entry. Raises UserError with reasoning-gym's reason if it refuses."""
    settings = json.dumps({"task": task, "size": size, "seed": seed, "options": options})
    done = subprocess.run(
        [sys.executable, "-P", "-m", "fipo.data.made.gym", settings],
        env=os.environ | {"PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
    )
    if done.returncode != 0:
        raise UserError(f"data: reasoning_gym's task {task!r} ended with status {done.returncode}")
    result = json.loads(done.stdout.splitlines()[-1])
    if "refused" in result:
        raise UserError(f"data: {result['refused']}")
    return [(question, answer) for question, answer in result["entries"]]


def _made(task: str, size: int, seed: int, options: dict[str, Any]) -> dict[str, Any]:
    if task == "composite":
        return {"refused": "reasoning_gym's task 'composite' is not supported: its scorers would run unguarded"}
    try:
        import reasoning_gym
    except ImportError:
        return {"refused": f'source "reasoning_gym" needs the extra: {install_hint("gym")}'}
    try:
        dataset = reasoning_gym.create_dataset(task, size=size, seed=seed, **options)
        entries = [dataset[index] for index in range(size)]
    except (ValueError, TypeError, AssertionError, LookupError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        return {"refused": f"reasoning_gym refuses task {task!r}: {reason}"}
    # An answer of None: only the task's scorer knows.
    return {"entries": [(e["question"], "" if e["answer"] is None else str(e["answer"])) for e in entries]}


if __name__ == "__main__":
    print(json.dumps(_made(**json.loads(sys.argv[1]))))
