"""`python -m fipo.integrations.verl.rehearsal`: a verl job on this machine's CPU, with a tiny model."""

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

ENVIRONMENT = {  # before verl is imported, here and in Ray's workers
    "VERL_PLATFORM": "cpu",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "WANDB_MODE": "disabled",
}


def rehearse(job: Sequence[str] | None, *, folder: Path, ranks: int = 1, extra: Sequence[str] = ()) -> None:
    """Run a job's overrides (None: FIPO as released) on `ranks` CPU ranks; metrics go to `folder/checkpoints`.

    extra: overrides that win over the job's and over what a rehearsal changes.
    Prints every key that differs from the job's. Call it in a fresh process: verl reads ENVIRONMENT when imported.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(ENVIRONMENT)

    from hydra import compose, initialize_config_module

    from fipo.integrations.verl.main import train
    from fipo.integrations.verl.rehearsal import overrides
    from fipo.integrations.verl.rehearsal.materials import write_materials
    from fipo.integrations.verl.rehearsal.worker import RehearsalTaskRunner

    changes = {
        **overrides.material_changes(write_materials(folder)),
        **overrides.size_changes(),
        **overrides.device_changes(ranks),
        "trainer.default_local_dir": str(folder / "checkpoints"),
    }
    changes = {key: value for key, value in changes.items() if key not in overrides.keys_of(extra)}
    for line in [*(f"{key}={value}" for key, value in changes.items()), *extra]:
        print(f"rehearsal: {line}")
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides.merged(job or overrides.algorithm(), changes, extra))
    train(config, RehearsalTaskRunner)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fipo.integrations.verl.rehearsal", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="for the model, data, metrics and checkpoints")
    parser.add_argument("--ranks", type=int, default=1, help="training processes")
    parser.add_argument("--job", type=Path, help="a JSON list of a job's overrides (default: FIPO as released)")
    parser.add_argument("overrides", nargs="*", help="further overrides, which win over all others")
    arguments = parser.parse_args()
    began = time.monotonic()
    job = json.loads(arguments.job.read_text()) if arguments.job else None
    rehearse(job, folder=arguments.folder, ranks=arguments.ranks, extra=arguments.overrides)
    print(f"rehearsal: done in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
