"""verl's own `main_ppo` with FIPO's whole loss: `python -m fipo.integrations.verl.main <the same overrides>`.

It checks the configuration before Ray starts, picks FIPO's class of the trainer mode in the task runner, and gives
verl's file logger a file of its own for each start.
The stock `python -m verl.trainer.main_ppo` also trains with `future_kl`; there the metrics are means only, and the
checks happen at the first loss.
"""

import os
from pathlib import Path
from typing import Any

import hydra
import ray
from verl.trainer.main_ppo import TaskRunnerV1, run_ppo
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config
from verl.utils.device import auto_set_device

from fipo.integrations.verl.validate import check_config, check_files


@ray.remote
class FIPOTaskRunner(TaskRunnerV1.__ray_actor_class__):  # type: ignore[misc, name-defined, unused-ignore]
    def run(self, config: Any) -> Any:
        from fipo.integrations.verl import v1 as trainer

        check_files(config)
        mode = config.trainer.v1.trainer_mode
        if not mode.startswith(trainer.PREFIX):
            config.trainer.v1.trainer_mode = trainer.PREFIX + mode
        if "file" in config.trainer.logger:
            fresh = fresh_metrics_file(Path(config.trainer.default_local_dir))
            os.environ.setdefault("VERL_FILE_LOGGER_PATH", str(fresh))
        return super().run(config)


def fresh_metrics_file(folder: Path) -> Path:
    """`metrics_001.jsonl` in the folder, or the next number: verl truncates the file that it finds, also on resume."""
    folder.mkdir(parents=True, exist_ok=True)
    taken = [int(path.stem.removeprefix("metrics_")) for path in folder.glob("metrics_[0-9][0-9][0-9].jsonl")]
    return folder / f"metrics_{max(taken, default=0) + 1:03d}.jsonl"


def train(config: Any, task_runner: Any = FIPOTaskRunner) -> None:
    """Check the configuration, then train."""
    auto_set_device(config)
    validate_config(config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    check_config(config)
    if not config.trainer.use_v1:
        raise ValueError("trainer.use_v1 must be True for fipo, got False")
    run_ppo(config, task_runner_class=task_runner)


@hydra.main(config_path="pkg://verl.trainer.config", config_name="ppo_trainer", version_base=None)
def main(config: Any) -> None:
    train(config)


if __name__ == "__main__":
    main()
