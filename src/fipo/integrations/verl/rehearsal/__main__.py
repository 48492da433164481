"""`python -m fipo.integrations.verl.rehearsal`: a verl job on this machine's CPU, with a tiny model."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fipo.telemetry.exit_codes import exit_code_of
from fipo.telemetry.run_lock import run_lock

ENVIRONMENT = {  # before verl is imported, here and in Ray's workers
    "VERL_PLATFORM": "cpu",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "WANDB_MODE": "disabled",
}


def rehearse(
    job: Sequence[str] | None, *, folder: Path, ranks: int = 1, extra: Sequence[str] = (), log: Path | None = None
) -> None:
    """Run a job's overrides (None: FIPO as released) on `ranks` CPU ranks; metrics go to `folder/checkpoints`.

    extra: overrides that win over the job's and over what a rehearsal changes. log: a file for all that verl and Ray
    print; what differs from the job is printed in front of that.
    Call it in a fresh process: verl reads ENVIRONMENT when imported, and a cluster's RAY_ADDRESS would be joined.
    """
    os.environ.update(ENVIRONMENT)
    os.environ.pop("RAY_ADDRESS", None)

    from hydra import compose, initialize_config_module

    from fipo.integrations.verl.main import train
    from fipo.integrations.verl.rehearsal import overrides
    from fipo.integrations.verl.rehearsal.materials import write_materials
    from fipo.integrations.verl.rehearsal.worker import RehearsalTaskRunner

    changes = {
        **overrides.material_changes(write_materials(folder)),
        **overrides.size_changes(),
        **overrides.learning_changes(),
        **overrides.device_changes(ranks),
        "trainer.default_local_dir": str(folder / "checkpoints"),
    }
    changes = {key: value for key, value in changes.items() if key not in overrides.keys_of(extra)}
    for line in [*(f"{key}={value}" for key, value in changes.items()), *extra]:
        print(f"rehearsal: {line}")
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides.merged(job or overrides.algorithm(), changes, extra))
    if log is not None:
        send_output_to(log)
    train(config, RehearsalTaskRunner)


def send_output_to(log: Path) -> None:
    """All that this process and its children print from now on, at the end of what is there."""
    sys.stdout.flush()
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fipo.integrations.verl.rehearsal", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="for the model, data, metrics and checkpoints")
    parser.add_argument("--ranks", type=int, default=1, help="training processes")
    parser.add_argument("--job", type=Path, help="as fipo launch writes it (default: FIPO as released)")
    parser.add_argument("--log", type=Path, help="a file for what verl and Ray print (default: here)")
    parser.add_argument("--again", action="store_true", help="what differs from the job goes to the log, too")
    parser.add_argument("overrides", nargs="*", help="further overrides, which win over all others")
    arguments = parser.parse_args()
    began = time.monotonic()
    job = json.loads(arguments.job.read_text())["job"] if arguments.job else None
    folder, log = arguments.folder.resolve(), arguments.log

    def command() -> int:
        with run_lock(folder):
            if arguments.again and log is not None:
                send_output_to(log)
            rehearse(job, folder=folder, ranks=arguments.ranks, extra=arguments.overrides, log=log)
        print(f"rehearsal: done in {time.monotonic() - began:.0f} s")
        return 0

    return exit_code_of(command)


if __name__ == "__main__":
    sys.exit(main())
