"""One run of a study in a process of its own: `python -m fipo.study.run JOB.toml [CONTROL]`."""

import sys
from pathlib import Path

from fipo.errors import RunStopped, UserError
from fipo.study.controls import CONTROLS
from fipo.tasks.processes import die_with_parent
from fipo.telemetry.durable import DiskError
from fipo.training import load_recipe, train


def main() -> int:
    """0 for a finished run, otherwise the exit code of `fipo train`; the last line of stderr says why."""
    die_with_parent()
    control = CONTROLS[sys.argv[2]] if sys.argv[2:] else None
    try:
        train(load_recipe(Path(sys.argv[1]), {}), resume=True, control=control)
    except (UserError, RunStopped) as error:
        print(f"fipo: {error}", file=sys.stderr)
        return error.exit_code
    except DiskError as error:
        print(f"fipo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
