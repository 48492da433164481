import os

import pytest

pytest.importorskip("verl", reason="verl is not installed here; make test-verl has it")

from omegaconf import OmegaConf
from verl.trainer.main_ppo import TaskRunnerV1
from verl.trainer.ppo.v1 import get_trainer_cls
from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY

from fipo.integrations.verl import v1 as trainer
from fipo.integrations.verl.loss import WorkerLoss
from fipo.integrations.verl.main import FIPOTaskRunner, fresh_metrics_file


def job(trainer, *, model="hub/model", files="hdfs://train.parquet"):
    data = {"train_files": [files, "relative.parquet"], "val_files": "relative.parquet"}
    return OmegaConf.create({"trainer": trainer, "actor_rollout_ref": {"model": {"path": model}}, "data": data})


def test_every_mode_of_verls_trainer_has_one_with_our_loss():
    theirs = {name for name in TRAINER_REGISTRY if not name.startswith(trainer.PREFIX)}
    assert theirs == set(trainer.MODES)
    for mode, base in trainer.MODES.items():
        assert issubclass(get_trainer_cls(trainer.PREFIX + mode), base)


def test_the_task_runner_picks_our_class_of_the_mode(monkeypatch):
    chosen = []
    runner = FIPOTaskRunner.__ray_actor_class__
    monkeypatch.setattr(
        TaskRunnerV1.__ray_actor_class__, "run", lambda self, config: chosen.append(config.trainer.v1.trainer_mode)
    )
    for mode in ("sync", "fipo_sync"):
        runner().run(job({"logger": ["console"], "v1": {"trainer_mode": mode}}))
    assert chosen == ["fipo_sync", "fipo_sync"]


def test_a_model_or_a_file_that_the_node_does_not_see_is_one_line(tmp_path):
    runner = FIPOTaskRunner.__ray_actor_class__
    with pytest.raises(
        FileNotFoundError, match=r"actor_rollout_ref.model.path: /nowhere is not there on node \S+, where"
    ):
        runner().run(job({}, model="/nowhere"))
    with pytest.raises(FileNotFoundError, match=r"data.train_files: .*/none.parquet is not there on node"):
        runner().run(job({}, model=str(tmp_path), files=f"{tmp_path}/none.parquet"))


def test_every_start_of_a_job_has_a_metrics_file_of_its_own(tmp_path):
    folder = tmp_path / "ckpts"
    assert fresh_metrics_file(folder) == folder / "metrics_001.jsonl"
    (folder / "metrics_001.jsonl").touch()
    (folder / "metrics_009.jsonl").touch()
    assert fresh_metrics_file(folder) == folder / "metrics_010.jsonl"


def test_verls_file_logger_writes_there_unless_the_environment_says_otherwise(monkeypatch, tmp_path):
    paths = []
    runner = FIPOTaskRunner.__ray_actor_class__
    monkeypatch.setattr(
        TaskRunnerV1.__ray_actor_class__, "run", lambda self, config: paths.append(os.environ["VERL_FILE_LOGGER_PATH"])
    )
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", "mine.jsonl")
    trainer = {"logger": ["file"], "default_local_dir": str(tmp_path), "v1": {"trainer_mode": "sync"}}
    runner().run(job(trainer))
    monkeypatch.delenv("VERL_FILE_LOGGER_PATH")
    runner().run(job(trainer))
    assert paths == ["mine.jsonl", str(tmp_path / "metrics_001.jsonl")]


def test_the_workers_get_our_loss_and_each_update_its_step():
    class Base:
        def _setup(self):
            self.actor_rollout_wg = self

        def set_loss_fn(self, loss_fn):
            self.loss_fn = loss_fn

        def _update_actor(self, batch, metrics):
            return batch

    one = object.__new__(trainer.with_fipo_loss("sync", Base))
    one.config = OmegaConf.create({"actor_rollout_ref": {"actor": {}, "model": {}}})
    one.global_steps = 7
    one._setup()
    assert isinstance(one.loss_fn, WorkerLoss)
    batch = type("Batch", (), {"extra_info": {}})()
    assert one._update_actor(batch, {}).extra_info == {"fipo_step": 7}
