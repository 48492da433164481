import os
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("verl", reason="verl is not installed here; make test-verl has it")

import torch
from omegaconf import OmegaConf
from ray.exceptions import RayTaskError
from verl.trainer.main_ppo import TaskRunnerV1
from verl.trainer.ppo.v1 import PPOTrainer, get_trainer_cls
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY

from fipo.errors import RunStopped
from fipo.integrations.shared import FailurePolicy
from fipo.integrations.verl import compat, v1
from fipo.integrations.verl.generated import Generated, Limits
from fipo.integrations.verl.loss import WorkerLoss
from fipo.integrations.verl.metrics import Travelling
from fipo.integrations.verl.v1 import FIPOTaskRunner, fresh_metrics_file
from fipo.objective import Mean, Sum


def job(trainer, *, model="hub/model", files="hdfs://train.parquet"):
    data = {"train_files": [files, "relative.parquet"], "val_files": "relative.parquet"}
    return OmegaConf.create({"trainer": trainer, "actor_rollout_ref": {"model": {"path": model}}, "data": data})


def test_every_mode_of_verls_trainer_has_one_with_our_loss():
    theirs = {name for name in TRAINER_REGISTRY if not name.startswith(v1.PREFIX)}
    assert theirs == set(v1.MODES)
    for mode, base in v1.MODES.items():
        assert issubclass(get_trainer_cls(v1.PREFIX + mode), base)


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

    one = object.__new__(v1.with_fipo_loss("sync", Base))
    one.config = OmegaConf.create({"actor_rollout_ref": {"actor": {}, "model": {}}})
    one.global_steps = 7
    one._setup()
    one._arrived = []
    assert isinstance(one.loss_fn, WorkerLoss)
    batch = type("Batch", (), {"extra_info": {}})()
    assert one._update_actor(batch, {}).extra_info == {"fipo_step": 7}


def test_a_part_of_verls_trainer_that_is_gone_is_named(monkeypatch):
    monkeypatch.delattr("verl.trainer.ppo.v1.PPOTrainerColocateAsync")
    with pytest.raises(
        compat.VerlMismatch, match=r"needs verl.trainer.ppo.v1.PPOTrainerColocateAsync, which verl 0.9.1"
    ):
        v1.check_parts()
    monkeypatch.undo()
    monkeypatch.delattr("verl.trainer.ppo.v1.replay_buffer.ReplayBuffer.sample")
    with pytest.raises(
        compat.VerlMismatch, match=r"verl's ReplayBuffer must have sample, which verl 0.9.1 does not have"
    ):
        v1.check_parts()
    monkeypatch.undo()
    monkeypatch.setattr("verl.trainer.ppo.v1.PPOTrainer._update_actor", lambda self, batch: batch)
    with pytest.raises(compat.VerlMismatch, match=r"PPOTrainer._update_actor must take \(self, batch, metrics\), got "):
        v1.check_parts()


def test_a_job_that_we_end_says_why_without_rays_traceback(monkeypatch):
    def fails_with(cause):
        def run_ppo(config, task_runner_class):
            raise RayTaskError("run", "a traceback", cause).as_instanceof_cause()

        monkeypatch.setattr(v1, "run_ppo", run_ppo)
        v1.run(OmegaConf.create({"trainer": {"use_v1": True}}), None)

    with pytest.raises(RunStopped, match="no group has contrast") as stopped:
        fails_with(RunStopped("step 1: no group has contrast"))
    assert not isinstance(stopped.value, RayTaskError)
    with pytest.raises(RayTaskError):
        fails_with(ValueError("somebody else's"))


def test_another_worker_plays_every_role():
    class Base:
        def _init_resource_pool_mgr(self):
            self.role_worker_mapping = {"actor": None, "ref": None}

    class Worker:
        pass

    one = v1.with_worker(Base, Worker)()
    one._init_resource_pool_mgr()
    played = [role.__ray_actor_class__ for role in one.role_worker_mapping.values()]
    assert played == [Worker, Worker]


def test_nothing_but_v1_stands_on_verls_v1_trainer():
    """CONTRIBUTING.md names that file alone."""
    folder = Path(v1.__file__).parent
    methods = [name for part in v1.PARTS.values() for name in part if name not in ("", "sample", "step", "_setup")]
    names = ("verl.trainer.ppo.v1", "verl.trainer.main_ppo import", "TaskRunnerV1", "import transfer_queue", *methods)
    others = [path for path in folder.rglob("*.py") if path != Path(v1.__file__)]
    assert not [(path.name, name) for path in others for name in names if name in path.read_text()]


class Queue:
    """Stands in for the TransferQueue of a running job: prompts and responses with their tags and fields."""

    def __init__(self):
        self.tags, self.fields = {}, {}

    def add(self, uid, infos):
        self.tags[uid] = {"is_prompt": True, "status": "finished", "global_steps": 1}
        for i, info in enumerate(infos):
            self.tags[f"{uid}_{i}_0"] = {"status": "success"}
            self.fields[f"{uid}_{i}_0"] = {
                "extra_fields": {"reward_extra_info": info},
                "prompts": torch.tensor([1, 2]),
                "responses": torch.tensor([3]),
            }

    def kv_list(self):
        return {"train": dict(self.tags)}

    def kv_clear(self, *, partition_id, keys):
        for key in keys:
            self.tags.pop(key, None)

    def kv_batch_get(self, *, keys, partition_id, select_fields):
        return {name: [self.fields[key][name] for key in keys] for name in select_fields}


def response(outcome, *, overlong=0.0):
    right, failed = outcome == "correct", outcome in ("timeout", "crash")
    return {
        "score": 1.0 if right else 0.0 if failed else -1.0,
        "acc": float(right),
        "pred": "7" if right else "",
        "outcome": outcome,
        "grade/failed": float(failed),
        "overlong_reward": overlong,
    }


RIGHT, WRONG, NONE, SLOW = (response(outcome) for outcome in ("correct", "wrong", "no_answer", "timeout"))


@pytest.fixture
def buffer(monkeypatch):
    """verl's own replay buffer, watched, whose refills are the groups that a test gives, one after the other."""
    queue = Queue()
    for module in ("verl.trainer.ppo.v1.replay_buffer", "fipo.integrations.verl.v1"):
        monkeypatch.setattr(f"{module}.tq", queue)

    def build(groups, *, wanted=2, batches=3, on_failure="zero", max_failures=None):
        coming = iter(enumerate(groups))

        def refill(count):
            asked = list(islice(coming, count))
            assert asked, "the test has no more groups"
            for i, infos in asked:
                queue.add(f"group{i:03d}", infos)

        buffer = ReplayBuffer(
            trainer_mode="sync",
            trainer_config=OmegaConf.create({}),
            max_off_policy_threshold=None,
            max_off_policy_strategy="drop",
            sampler_kwargs=OmegaConf.create({}),
            poll_interval=0.0,
            refill_fn=refill,
            filter_groups_metric="acc",
            train_batch_size=wanted,
            gen_batch_size=1,
        )
        buffer.__class__ = v1.WatchedReplayBuffer
        trainer = SimpleNamespace(tokenizer=SimpleNamespace(decode=lambda tokens: " ".join(f"w{t}" for t in tokens)))
        limits = Limits(wanted=wanted, batch=4, batches=batches)
        buffer.watch(trainer, Generated(limits, FailurePolicy(on_failure, max_failures)))
        refill(wanted)
        return buffer

    return build


def sample(buffer):
    batch, _ = buffer.sample(global_steps=1, partition_id="train", batch_size=2)
    return sorted({key.split("_")[0] for key in batch.keys}), buffer.of_step()


def test_metrics_of_a_step_are_over_everything_that_it_generated(buffer):
    groups = [[WRONG] * 2, [RIGHT, WRONG], [RIGHT] * 2, [NONE, response("correct", overlong=-0.5)], [SLOW, RIGHT]]
    kept, metrics = sample(buffer(groups))
    assert kept == ["group001", "group003"]
    assert metrics == {
        "groups/generated": 4,
        "groups/kept": 2,
        "groups/all_correct": 1,
        "groups/all_wrong": 1,
        "reward/mean": -0.0625,
        "reward/overlong": -0.0625,
        "accuracy/mean": 0.5,
        "grade/correct": 0.5,
        "grade/wrong": 0.375,
        "grade/no_answer": 0.125,
        "grade/timeout": 0.0,
        "grade/crash": 0.0,
        "grade/failed": 0,
    }


def test_a_step_begins_to_count_anew(buffer):
    watched = buffer([[WRONG] * 2, *[[RIGHT, WRONG]] * 9])
    assert sample(watched)[1]["groups/generated"] == 4
    watched.refill_fn(2)
    assert sample(watched)[1]["groups/generated"] == 2


def test_a_step_of_several_updates_reports_over_all_of_them(buffer):
    """As verl's separate_async with a parameter_sync_step: verl would average counts, and take the least of "mini"."""
    updates = [
        {"policy/filtered_sequences": Sum(1), "policy/kl": Mean(3.0, 30), "fipo/mini_batch_0/x/mean": Mean(1.0, 1)},
        {"policy/filtered_sequences": Sum(2), "policy/kl": Mean(7.0, 10), "fipo/mini_batch_1/x/mean": Mean(2.0, 1)},
    ]

    class Base:
        step = PPOTrainer.step
        config = OmegaConf.create({"data": {"train_batch_size": 4}})
        parameter_sync_step = 2
        global_steps = 1

        def prepare_step(self):
            return {}

        def _step_once(self, metrics, timing_raw, size):
            if self.local_trigger_step:
                self.replay_buffer.refill_fn(size)
            batch, sampled = self.replay_buffer.sample(self.global_steps, "train", size)
            metrics |= sampled
            return self._update_actor(batch, metrics)

        def _update_actor(self, batch, metrics):
            metrics |= {"actor/fipo": Travelling(updates[self.local_trigger_step]), "actor/grad_norm": 1.0}
            return batch

    one = object.__new__(v1.with_fipo_loss("separate_async", Base))
    one.replay_buffer = buffer([[SLOW, WRONG], [RIGHT, WRONG], [WRONG] * 2, [SLOW, RIGHT], *[[RIGHT, WRONG]] * 9])
    metrics = {}
    batch = one.step(metrics, {})
    assert len({key.split("_")[0] for key in batch.keys}) == metrics["groups/kept"] == 4
    assert (metrics["groups/generated"], metrics["groups/all_wrong"], metrics["grade/failed"]) == (6, 2, 2)
    assert {key: value for key, value in metrics.items() if key.startswith("actor/")} == {
        "actor/grad_norm": 1.0,
        "actor/policy/filtered_sequences": 3,
        "actor/policy/kl": 0.25,
        "actor/fipo/mini_batch_0/x/mean": 1.0,
        "actor/fipo/mini_batch_1/x/mean": 2.0,
    }


def test_a_step_in_which_no_group_has_contrast_ends_at_the_recipes_limit(buffer, caplog):
    groups = [[NONE] * 2] * 9 + [[RIGHT] * 2] + [[NONE] * 2] * 90
    with pytest.raises(RunStopped) as stopped:
        sample(buffer(groups))
    assert "step 1: 8 groups generated, 0 of 2 kept; 100% all wrong, 0% all right" in caplog.text
    message = str(stopped.value)
    assert "12 groups generated, 0 of 2 kept; 92% all wrong, 8% all right: no more than" in message
    assert "algorithm.filter_groups.max_num_gen_batches 3 generation batches of 4 prompts" in message
    assert "'outcome': 'no_answer', 'pred': ''" in message and message.endswith("'w3', to the prompt 'w1 w2'")
    assert "\n" not in message


def test_without_a_limit_it_goes_on_and_says_how_it_stands(buffer, caplog):
    groups = [[WRONG] * 2] * 30 + [[RIGHT, WRONG]] * 9
    assert len(sample(buffer(groups, batches=0))[0]) == 2
    assert "0 of 2 kept; 100% all wrong" in caplog.text


def test_a_group_with_a_failed_grade_is_dropped_where_the_recipe_says_so(buffer):
    groups = [[RIGHT, SLOW], [RIGHT, WRONG], [RIGHT, WRONG]]
    kept, metrics = sample(buffer(groups, on_failure="drop_group"))
    assert kept == ["group001", "group002"]
    assert metrics["grade/failed"] == 1
    assert sample(buffer(groups))[0] == ["group000", "group001"]


def test_too_many_failed_grades_end_the_job(buffer):
    with pytest.raises(RuntimeError, match=r"2 grades timed out or crashed, more than grading.max_failures = 1"):
        sample(buffer([[SLOW, WRONG]] * 30, max_failures=1))


def test_the_limit_is_that_of_the_recipe():
    v1_settings = {"trainer_mode": "sync"}
    job = {"data": {"train_batch_size": 8, "gen_batch_size": 24}, "trainer": {"v1": v1_settings}}
    groups = {"enable": True, "max_num_gen_batches": 10}
    config = OmegaConf.create({**job, "algorithm": {"filter_groups": groups}})
    assert v1.limits_of(config) == Limits(wanted=8, batch=24, batches=10)
    config.algorithm.filter_groups.enable = False
    config.data.gen_batch_size = None
    assert v1.limits_of(config) == Limits(wanted=8, batch=8, batches=0)
