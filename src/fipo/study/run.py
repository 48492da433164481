"""One run of a study in a process of its own: `python -m fipo.study.run JOB.toml [CONTROL]`."""

import sys
from pathlib import Path

from fipo.grading.workers.system import die_with_parent
from fipo.study.controls import CONTROLS
from fipo.telemetry.exit_codes import exit_code_of
from fipo.training import load_recipe, train


def main() -> int:
    """0 for a finished run, otherwise the exit code of `fipo train`; the last line of stderr says why."""
    die_with_parent()
    control = CONTROLS[sys.argv[2]] if sys.argv[2:] else None
    train(load_recipe(Path(sys.argv[1]), {}), resume=True, control=control)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
