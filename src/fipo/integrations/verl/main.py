"""verl's own `main_ppo` with FIPO's whole loss: `python -m fipo.integrations.verl.main <the same overrides>`.

It checks the configuration before Ray starts, and runs FIPO's class of the trainer mode (`v1.py`).
The stock `python -m verl.trainer.main_ppo` also trains with `future_kl`; there the metrics are means only, the checks
happen at the first loss, and nothing limits dynamic sampling.
"""

import re
import sys
from typing import Any

import hydra
from hydra.errors import InstantiationException
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config
from verl.utils.device import auto_set_device

from fipo.errors import UserError
from fipo.integrations.verl.compat import VerlMismatch
from fipo.integrations.verl.v1 import FIPOTaskRunner, run
from fipo.integrations.verl.validate import check_config
from fipo.telemetry.exit_codes import exit_code_of


def train(config: Any, task_runner: Any = FIPOTaskRunner) -> int:
    """Check the configuration, then train.

    Raises UserError for a mistake in it, RunStopped where the job ends early for a reason of ours.
    """
    auto_set_device(config)
    try:
        reference, critic = need_reference_policy(config), need_critic(config)
        validate_config(config=config, use_reference_policy=reference, use_critic=critic)
        check_config(config)
    except (ValueError, VerlMismatch, InstantiationException) as error:
        raise UserError(_mistake(error)) from None
    run(config, task_runner)
    return 0


def _mistake(error: Exception) -> str:
    """What is wrong with the configuration; of Hydra's many lines the key, and what its class said of it."""
    key = re.search(r"^full_key: (.+)", str(error), re.MULTILINE)
    if key is None or error.__cause__ is None:
        return str(error)
    said = str(error.__cause__)
    return said if key[1] in said else f"{key[1]}: {said}"


@hydra.main(config_path="pkg://verl.trainer.config", config_name="ppo_trainer", version_base=None)
def main(config: Any) -> None:
    sys.exit(exit_code_of(lambda: train(config)))


if __name__ == "__main__":
    main()
