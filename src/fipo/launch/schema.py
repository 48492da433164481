"""`python -m fipo.launch.schema > src/fipo/launch/verl_0.9.1_keys.txt`, where verl is: the keys of its schema."""

from collections.abc import Iterator
from typing import Any


def installed_keys() -> list[str]:
    """Every key of the installed verl's `ppo_trainer`, sorted; a table that is empty there counts as one."""
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer")
    return sorted(_leaves(OmegaConf.to_container(config, resolve=False), ""))


def _leaves(table: Any, prefix: str) -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


if __name__ == "__main__":
    print("\n".join(installed_keys()))
