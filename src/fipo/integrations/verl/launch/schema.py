"""verl's keys, written where verl is: `python -m fipo.integrations.verl.launch.schema > verl_0.9.1_keys.txt` (here).

A line is a key and what verl has there: number, bool, open (an empty table), or -, which may be anything.
"""

from collections.abc import Iterator
from typing import Any

from fipo.integrations.verl.launch.keys import OPEN

NUMBER_OR_TEXT = ("algorithm.rollout_correction.rollout_is_threshold",)  # 2.0, or "0.5_2.0" for two bounds


def installed_keys() -> dict[str, str]:
    """Every key of the installed verl's `ppo_trainer` and its kind; a table that is empty there counts as a key."""
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer")
    return dict(_leaves(OmegaConf.to_container(config, resolve=False), ""))


def _leaves(table: Any, prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            key = f"{prefix}{name}"
            yield key, "-" if key in NUMBER_OR_TEXT else _kind(value)


def _kind(value: Any) -> str:
    if value == {}:
        return OPEN
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else "-"


if __name__ == "__main__":
    print("\n".join(f"{key} {kind}" for key, kind in sorted(installed_keys().items())))
