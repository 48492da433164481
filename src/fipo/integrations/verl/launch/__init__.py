"""Jobs of verl on a Ray cluster: a recipe becomes one `ray job submit`, printed or submitted and followed."""

from fipo.integrations.verl.launch.command import launch

__all__ = ["launch"]
