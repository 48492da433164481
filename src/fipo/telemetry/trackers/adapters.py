"""One class per tracking library. Each writes into its folder; what leaves the machine, the user asked for."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

TrackerName = Literal["tensorboard", "wandb", "swanlab", "trackio"]
PROJECT = "fipo"


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    name: str
    id: str  # the same when the run is resumed: 16 hexadecimal digits
    folder: Path  # trackers/NAME of the run directory
    config: dict[str, Any]  # config.toml


class Tracker(Protocol):
    """Made from a TrackedRun. Steps come in order, each once."""

    def log(self, step: int, metrics: dict[str, float]) -> None: ...

    def finish(self) -> None: ...


class TensorBoard:
    def __init__(self, run: TrackedRun) -> None:
        from tensorboard.summary import Writer

        self.writer = Writer(str(run.folder))

    def log(self, step: int, metrics: dict[str, float]) -> None:
        for key, value in metrics.items():
            self.writer.add_scalar(key, value, step)
        self.writer.flush()

    def finish(self) -> None:
        self.writer.close()


class WandB:
    def __init__(self, run: TrackedRun) -> None:
        os.environ.setdefault("WANDB_MODE", "offline")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            id=run.id,
            resume="allow",
            dir=run.folder.parent,  # it adds wandb/
            config=run.config,
            settings=wandb.Settings(console="off", x_stats_pid=os.getppid()),
        )

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self.run.log(metrics, step=step, commit=True)

    def finish(self) -> None:
        self.run.finish()


class SwanLab:
    def __init__(self, run: TrackedRun) -> None:
        import swanlab

        mode: Any = os.environ.get("SWANLAB_MODE", "offline")
        self.run = swanlab.init(
            mode=mode,
            id=run.id,
            resume="allow",
            project=os.environ.get("SWANLAB_PROJ_NAME", PROJECT),
            name=run.name,
            log_dir=str(run.folder),
            config=run.config,
        )

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self.run.log(metrics, step=step)

    def finish(self) -> None:
        self.run.finish()


class Trackio:
    def __init__(self, run: TrackedRun) -> None:
        os.environ["TRACKIO_DIR"] = str(run.folder)  # read when it is imported
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        import trackio

        self.run = trackio.init(
            project=PROJECT,
            name=run.name,
            config=run.config,
            resume="allow",
            embed=False,
        )

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self.run.log(metrics, step=step)

    def finish(self) -> None:
        self.run.finish()


ADAPTERS: dict[TrackerName, Callable[[TrackedRun], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "swanlab": SwanLab,
    "trackio": Trackio,
}
