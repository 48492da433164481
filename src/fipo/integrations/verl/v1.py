"""All that stands on verl's V1 trainer: its classes with FIPO's loss, its replay buffers watched, its task runner.

The class of each mode is registered as `fipo_MODE`; the task runner chooses it. The next verl may drop V1: what is
missing then is said when this is imported, and the rest of the plugin does not depend on it.
"""

import importlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fipo.errors import RunStopped
from fipo.integrations.verl.compat import VerlMismatch, check_whole_loss, require_parameters

REPLAY_BUFFER = {
    "_terminal_eviction_reasons": ("self", "global_steps", "partition_id"),
    "_sampleable_terminal_keys": ("self", "partition_id", "eviction_reasons"),
    "sample": ("self", "global_steps", "partition_id", "batch_size"),
}
PARTS: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {  # a module, a name in it, what is replaced or called of it
    ("verl.trainer.main_ppo", "TaskRunnerV1"): {},
    ("verl.trainer.main_ppo", "run_ppo"): {"": ("config", "task_runner_class")},
    ("verl.trainer.ppo.v1", "register_trainer"): {"": ("name",)},
    ("verl.trainer.ppo.v1", "PPOTrainer"): {
        "_init_resource_pool_mgr": ("self",),
        "_build_replay_buffer": ("self",),
        "_setup": ("self",),
        "_update_actor": ("self", "batch", "metrics"),
        "step": ("self", "metrics", "timing_raw"),
    },
    ("verl.trainer.ppo.v1", "PPOTrainerSync"): {},
    ("verl.trainer.ppo.v1", "PPOTrainerColocateAsync"): {},
    ("verl.trainer.ppo.v1", "PPOTrainerSeparateAsync"): {},
    ("verl.trainer.ppo.v1.replay_buffer", "ReplayBuffer"): REPLAY_BUFFER,
    ("verl.trainer.ppo.v1.replay_buffer", "ReplayBufferAsync"): REPLAY_BUFFER,
}


def check_parts() -> None:
    """Raise VerlMismatch with the first part of verl's V1 trainer that is missing, or that takes something else."""
    import verl

    for (module, name), methods in PARTS.items():
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise VerlMismatch(
                f"fipo's trainer needs {module}.{name}, which verl {verl.__version__} does not have ({error}); "
                "verl's own trainer still has the loss future_kl"
            ) from None
        for method, parameters in methods.items():
            function = getattr(found, method, None) if method else found
            if function is None:
                raise VerlMismatch(f"verl's {name} must have {method}, which verl {verl.__version__} does not have")
            require_parameters(f"verl's {name}{'.' * bool(method)}{method}", function, parameters)


check_parts()

import ray  # noqa: E402
import transfer_queue as tq  # noqa: E402
from verl.trainer.main_ppo import TaskRunnerV1, run_ppo  # noqa: E402
from verl.trainer.ppo.v1 import (  # noqa: E402
    PPOTrainer,
    PPOTrainerColocateAsync,
    PPOTrainerSeparateAsync,
    PPOTrainerSync,
    register_trainer,
)
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync  # noqa: E402

from fipo.integrations.verl.generated import Generated, Info, Limits, metrics_of  # noqa: E402
from fipo.integrations.verl.loss import STEP_KEY, WorkerLoss  # noqa: E402
from fipo.integrations.verl.metrics import Travelling, take, values_of  # noqa: E402
from fipo.integrations.verl.validate import check_config, check_files, failure_policy  # noqa: E402

__all__ = ["MODES", "FIPOTaskRunner", "register_trainer", "run", "with_fipo_loss", "with_worker"]

PREFIX = "fipo_"
MODES: dict[str, type[PPOTrainer]] = {
    "sync": PPOTrainerSync,
    "colocate_async": PPOTrainerColocateAsync,
    "separate_async": PPOTrainerSeparateAsync,
}


def with_fipo_loss(mode: str, base: Any) -> Any:
    """The trainer of a mode whose workers get `WorkerLoss` as soon as their model is there."""

    class FIPOTrainer(base):  # type: ignore[misc, unused-ignore]
        def __init__(self, config: Any) -> None:
            check_config(config)
            check_whole_loss()
            config.trainer.v1.trainer_mode = mode  # verl also looks other settings up by this name
            self._limits = limits_of(config)  # before verl changes gen_batch_size
            super().__init__(config)

        def _build_replay_buffer(self) -> Any:
            buffer = super()._build_replay_buffer()
            if type(buffer) in WATCHED:  # not a sampler of the user's own
                buffer.__class__ = WATCHED[type(buffer)]
                buffer.watch(self, Generated(self._limits, failure_policy(self.config)))
            return buffer

        def _setup(self) -> None:
            super()._setup()
            actor = self.config.actor_rollout_ref
            self.actor_rollout_wg.set_loss_fn(WorkerLoss(actor.actor, actor.model))

        def _update_actor(self, batch: Any, metrics: dict[str, Any]) -> Any:
            batch.extra_info[STEP_KEY] = self.global_steps
            batch = super()._update_actor(batch, metrics)
            self._arrived += take(metrics)
            return batch

        def step(self, metrics: dict[str, Any], timing_raw: dict[str, float]) -> Any:
            """verl averages over the updates of a step, where `parameter_sync_step` > 1; ours are of all of them."""
            self._arrived: list[Travelling] = []
            batch = super().step(metrics, timing_raw)
            metrics |= values_of(self._arrived)
            if isinstance(self.replay_buffer, Watching):
                metrics |= self.replay_buffer.of_step()
            return batch

    FIPOTrainer.__name__ = f"FIPO{base.__name__}"
    return FIPOTrainer


def with_worker(base: Any, worker: type) -> Any:
    """A trainer whose every role is played by another class of training worker."""

    class WithWorker(base):  # type: ignore[misc, unused-ignore]
        def _init_resource_pool_mgr(self) -> None:
            super()._init_resource_pool_mgr()
            for role in self.role_worker_mapping:
                self.role_worker_mapping[role] = ray.remote(worker)

    return WithWorker


def limits_of(config: Any) -> Limits:
    """As the recipe has them: verl makes the generation batch 1 and ignores how many there may be."""
    data, groups = config.data, config.algorithm.get("filter_groups", None) or {}
    v1 = config.trainer.v1
    return Limits(
        wanted=data.train_batch_size // v1.get(v1.trainer_mode, {}).get("parameter_sync_step", 1),
        batch=data.get("gen_batch_size", None) or data.train_batch_size,
        batches=groups.get("max_num_gen_batches", 0) or 0 if groups.get("enable", False) else 0,
    )


class Watching:
    """A replay buffer of verl that looks at every group of training before it is dropped or sampled."""

    def watch(self, trainer: Any, generated: Generated) -> None:
        self._trainer = trainer  # its tokenizer comes later
        self._generated = generated
        self._sampled: list[tuple[Generated, int]] = []  # of this step, with how many groups of them it trains on
        self._looked_at: set[str] = set()
        self._broken: set[str] = set()  # groups with a failed grade, where those are dropped

    def _terminal_eviction_reasons(self: Any, global_steps: int, partition_id: str) -> Any:
        reasons = super()._terminal_eviction_reasons(global_steps, partition_id)  # type: ignore[misc]
        if partition_id == "val":
            return reasons
        before = self._generated.groups
        new = (self.finished_keys[partition_id] | self.failure_keys[partition_id]) - self._looked_at
        for uid, infos in self._infos(partition_id, new):
            if self._generated.add(infos):
                self._broken.add(uid)
        self._looked_at |= new
        stale, constant, failed, counts = reasons
        reasons = (stale, constant, failed | (self._broken & self.finished_keys[partition_id] - constant), counts)
        if new:
            kept = len(self._sampleable_terminal_keys(partition_id, reasons))
            example = (new & constant) or new
            self._generated.check(global_steps, kept, lambda: self._example(partition_id, min(example)), before=before)
        return reasons

    def sample(self: Any, global_steps: int, partition_id: str, batch_size: int) -> tuple[Any, dict[str, Any]]:
        batch, metrics = super().sample(global_steps, partition_id, batch_size)  # type: ignore[misc]
        if partition_id != "val":
            self._sampled.append((self._generated, batch_size))
            self._generated = Generated(self._generated.limits, self._generated.failures)
            waiting = self.finished_keys[partition_id] | self.failure_keys[partition_id]
            self._looked_at &= waiting  # an asynchronous trainer samples them later
            self._broken &= waiting
        return batch, metrics

    def of_step(self) -> dict[str, float]:
        """The metrics of everything that was generated for the samples since the last call."""
        sampled, self._sampled = self._sampled, []
        return metrics_of([generated for generated, _ in sampled], kept=sum(kept for _, kept in sampled))

    def _infos(self: Any, partition_id: str, uids: set[str]) -> Iterator[tuple[str, list[Info]]]:
        """What is known of the responses of each group."""
        keys = [key for key in self.partitions[partition_id] if key.split("_")[0] in uids]
        found: dict[str, list[Info]] = {uid: [] for uid in uids}
        if keys:
            data = tq.kv_batch_get(keys=keys, partition_id=partition_id, select_fields=["extra_fields"])
            for key, fields in zip(keys, data["extra_fields"], strict=True):
                fields = getattr(fields, "data", fields)
                info = fields.get("reward_extra_info", {}) if isinstance(fields, Mapping) else {}
                found[key.split("_")[0]].append(info)
        yield from found.items()

    def _example(self: Any, partition_id: str, uid: str) -> str:
        """A response of a group, with its prompt and what was read from it."""
        keys = sorted(key for key in self.partitions[partition_id] if key.split("_")[0] == uid)
        if not keys:
            return "no response of theirs is there"
        fields = ["prompts", "responses"]
        data = tq.kv_batch_get(keys=keys[:1], partition_id=partition_id, select_fields=fields)
        ((_, infos),) = self._infos(partition_id, {uid})
        prompt, response = (self._trainer.tokenizer.decode(data[name][0].tolist())[-400:] for name in fields)
        read = {key: infos[0][key] for key in ("outcome", "pred", "acc", "score") if key in infos[0]}
        return f"a response, {read}: {response!r}, to the prompt {prompt!r}"


class WatchedReplayBuffer(Watching, ReplayBuffer):  # type: ignore[misc, unused-ignore]
    pass


class WatchedReplayBufferAsync(Watching, ReplayBufferAsync):  # type: ignore[misc, unused-ignore]
    pass


WATCHED = {ReplayBuffer: WatchedReplayBuffer, ReplayBufferAsync: WatchedReplayBufferAsync}


@ray.remote
class FIPOTaskRunner(TaskRunnerV1.__ray_actor_class__):  # type: ignore[misc, name-defined, unused-ignore]
    """verl's own, with our trainer of the mode, and a metrics file of its own for each start of a job."""

    def run(self, config: Any) -> Any:
        import fipo.integrations.verl.v1  # noqa: F401 Ray sends this class by value: the trainers are registered here

        check_files(config)
        mode = config.trainer.v1.trainer_mode
        if not mode.startswith(PREFIX):
            config.trainer.v1.trainer_mode = PREFIX + mode
        if "file" in config.trainer.logger:
            fresh = fresh_metrics_file(Path(config.trainer.default_local_dir))
            os.environ.setdefault("VERL_FILE_LOGGER_PATH", str(fresh))
        return super().run(config)


def run(config: Any, task_runner: Any) -> None:
    """verl's start of Ray and of a task runner.

    Raises ValueError for a configuration that asks for another trainer, RunStopped where our part of it ends the job.
    """
    if not config.trainer.use_v1:
        raise ValueError("trainer.use_v1 must be True for fipo, got False")
    try:
        run_ppo(config, task_runner_class=task_runner)
    except ray.exceptions.RayTaskError as error:
        if not isinstance(error.cause, RunStopped):
            raise
        ray.shutdown()  # what its workers still print would come after the reason
        raise error.cause from None


def fresh_metrics_file(folder: Path) -> Path:
    """`metrics_001.jsonl` in the folder, or the next number: verl truncates the file that it finds, also on resume."""
    folder.mkdir(parents=True, exist_ok=True)
    taken = [int(path.stem.removeprefix("metrics_")) for path in folder.glob("metrics_[0-9][0-9][0-9].jsonl")]
    return folder / f"metrics_{max(taken, default=0) + 1:03d}.jsonl"


for _mode, _base in MODES.items():
    register_trainer(PREFIX + _mode)(with_fipo_loss(_mode, _base))
