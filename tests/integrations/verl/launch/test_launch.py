"""`fipo launch`: its command, its environment, its mistakes and its submission."""

import asyncio
import shlex
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from fipo.cli import main
from fipo.integrations.verl.knobs import KEYS
from fipo.objective import KNOBS

FOLDER = Path(__file__).parents[4] / "recipe" / "fipo"
RECIPE = FOLDER / "fipo_qwen2.5_32b.toml"
GOLDEN = Path(__file__).with_name("fipo_qwen2.5_32b.txt")
VARIABLES = (
    *("RAY_ADDRESS", "WORKING_DIR", "RUNTIME_ENV", "NNODES"),
    *("RAY_DATA_HOME", "MODEL_PATH", "TRAIN_FILE", "TEST_FILE", "CKPTS_DIR"),
)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in (*VARIABLES, "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_DATA_HOME", "/data")
    monkeypatch.setenv("WORKING_DIR", "/job")
    monkeypatch.chdir(FOLDER.parents[1])


@pytest.fixture
def words(capsys):
    """The words of the printed command, as a shell reads them."""

    def run(*arguments, recipe=RECIPE):
        assert main(["launch", str(recipe), "--dry-run", *arguments]) == 0
        return shlex.split(capsys.readouterr().out.replace("\\\n", " "), comments=True)

    return run


@pytest.fixture
def refusal(capsys):
    def run(*arguments, recipe=RECIPE):
        assert main(["launch", str(recipe), *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1
        return err.removeprefix("fipo: ").removesuffix("\n")

    return run


def test_a_dry_run_prints_the_estimate_and_the_command(capsys):
    assert main(["launch", "recipe/fipo/fipo_qwen2.5_32b.toml", "--dry-run"]) == 0
    assert capsys.readouterr().out == GOLDEN.read_text()


def test_the_environment_is_that_of_the_original_launcher(words, monkeypatch, tmp_path):
    runtime_env = tmp_path / "env.yaml"
    runtime_env.write_text("env_vars: {}\n")
    values = ["http://head:8265", "/work dir", str(runtime_env), "2", "/data", "/m", "/train", "/test", "/ckpts"]
    for name, value in zip(VARIABLES, values, strict=True):
        monkeypatch.setenv(name, value)
    command = words()
    assert command[:6] == [
        *("ray", "job", "submit", "--address=http://head:8265", "--working-dir=/work dir"),
        f"--runtime-env={runtime_env}",
    ]
    for line in (
        *("trainer.nnodes=2", "actor_rollout_ref.model.path=/m", "data.train_files=/train"),
        *("data.val_files=/test", "trainer.default_local_dir=/ckpts"),
    ):
        assert line in command


def test_the_command_line_wins_over_the_environment(words, monkeypatch):
    monkeypatch.setenv("NNODES", "2")
    monkeypatch.setenv("MODEL_PATH", "/m")
    command = words("--job.nnodes", "4", "--job.model", "hub/model", "--verl.trainer.save_freq", "10")
    assert {"trainer.nnodes=4", "actor_rollout_ref.model.path=/data/hub/model", "trainer.save_freq=10"} <= set(command)


def test_a_text_that_hydra_does_not_read_as_it_is_is_quoted(words):
    command = words("--job.name", "Lösung", "--verl.trainer.project_name", "it's 1")
    assert {"trainer.experiment_name='Lösung'", r"trainer.project_name='it\'s 1'"} <= set(command)


def test_keys_of_open_tables_get_a_plus_and_null_is_null(words):
    loss = "actor_rollout_ref.actor.policy_loss"
    command = words(
        *(f"--verl.{loss}.max_dual_clipped_tokens", "null", f"--verl.{loss}.influence_clip", "[0.8, 1.2]"),
        *("--verl.actor_rollout_ref.rollout.engine_kwargs.vllm.seed", "3", "--verl.data.seed", "1"),
    )
    assert {
        *(f"+{loss}.max_dual_clipped_tokens=null", f"+{loss}.influence_clip=[0.8,1.2]"),
        *("+actor_rollout_ref.rollout.engine_kwargs.vllm.seed=3", "data.seed=1"),
    } <= set(command)


def test_the_keys_of_the_policy_loss_include_every_field_of_the_objective():
    assert {*KNOBS, "surrogate"} <= set(KEYS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--verl.trainer.save_frq", "3"], "verl 0.9.1 has no key trainer.save_frq (did you mean trainer.save_freq?)"),
        (["--verl.trainer", "3"], "verl.trainer must be a table"),
        (
            ["--verl.actor_rollout_ref.actor.policy_loss.decay_rate", "32"],
            "verl.actor_rollout_ref.actor.policy_loss.decay_rate of the released code is here half_life",
        ),
        (
            ["--verl.trainer.v1.trainer_mode", "separate_async"],
            "verl.trainer.v1.trainer_mode must be sync, got separate_async: an asynchronous trainer",
        ),
        (["--verl.trainer.nnodes", "3"], "verl.trainer.nnodes must be set as job.nnodes, got 3"),
        (["--verl.trainer.save_freq", "ten"], "verl.trainer.save_freq must be a number, got 'ten'"),
        (
            ["--verl.actor_rollout_ref.actor.use_dynamic_bsz", "1"],
            "verl.actor_rollout_ref.actor.use_dynamic_bsz must be true or false, got 1",
        ),
        (
            ["--verl.actor_rollout_ref.actor.policy_loss.half_life", "long"],
            "verl.actor_rollout_ref.actor.policy_loss: half_life must be a number, got 'long'",
        ),
        (
            ["--verl.actor_rollout_ref.actor.clip_ratio_high", "0.2"],
            "verl.actor_rollout_ref.actor.clip_ratio_high must be 0.28, the clip_high of its policy_loss "
            "(preset release_32b), got 0.2",
        ),
        (["--verl.data.train_batch_size", "0"], "verl.data.train_batch_size must be a whole number > 0, got 0"),
        (
            ["--job.gpus_per_node", "4", "--job.nnodes", "1"],
            "verl.actor_rollout_ref.actor.ulysses_sequence_parallel_size must divide",
        ),
    ],
)
def test_a_mistake_is_one_line(refusal, arguments, message):
    assert refusal("--dry-run", *arguments).startswith(message)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("NNODES", "many", "NNODES must be a whole number > 0, got many"),
        ("RUNTIME_ENV", "/nowhere.yaml", "RUNTIME_ENV must be a YAML file, got /nowhere.yaml"),
    ],
)
def test_a_mistake_in_the_environment_is_one_line(refusal, monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    assert refusal("--dry-run") == message


def test_without_ray_one_line_says_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("ray.exceptions", "ray.job_submission"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["launch", str(RECIPE)]) == 2
    assert capsys.readouterr().err.startswith("fipo: fipo launch needs Ray: ")


class RayError(Exception):
    """Stands in for the base of Ray's errors."""


class AuthenticationError(RayError):
    """Stands in for that of a missing or wrong token."""


class Client:
    """Stands in for Ray's JobSubmissionClient, which only imports where the cluster's packages are."""

    status, submitted, ends_with = "SUCCEEDED", None, None

    def __init__(self, address):
        if "nowhere" in address:
            raise ConnectionError("Failed to connect to Ray\nat length")
        if "closed" in address:
            raise AuthenticationError("Unauthorized: Missing authentication token\nat length")

    def submit_job(self, **job):
        Client.submitted = job
        return "job_1"

    async def tail_job_logs(self, job):
        yield "step 1\n"
        await asyncio.sleep(0)
        if Client.ends_with is not None:
            raise Client.ends_with
        yield "step 2\n"

    def get_job_status(self, job):
        return SimpleNamespace(value=Client.status)


@pytest.fixture
def ray(monkeypatch, tmp_path):
    ray, jobs, exceptions = map(ModuleType, ("ray", "ray.job_submission", "ray.exceptions"))
    jobs.JobSubmissionClient = Client
    exceptions.RayError, exceptions.AuthenticationError = RayError, AuthenticationError
    for module in (ray, jobs, exceptions):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("WORKING_DIR", str(tmp_path))
    monkeypatch.setattr(Client, "ends_with", None)
    monkeypatch.setattr(Client, "status", "SUCCEEDED")
    return Client


def test_a_job_is_submitted_with_its_runtime_environment_and_followed(ray, words, capsys, tmp_path):
    command = words()
    assert main(["launch", str(RECIPE)]) == 0
    out = capsys.readouterr().out
    assert out.endswith("step 1\nstep 2\njob job_1 succeeded\n")
    assert shlex.split(ray.submitted["entrypoint"]) == command[command.index("--") + 1 :]
    assert ray.submitted["runtime_env"]["working_dir"] == str(tmp_path)
    assert "TORCH_NCCL_AVOID_RECORD_STREAMS" in ray.submitted["runtime_env"]["env_vars"]


@pytest.mark.parametrize(
    ("ends_with", "status", "code", "message"),
    [
        (KeyboardInterrupt(), "RUNNING", 130, "no longer following job_1; the job goes on: ray job logs --follow"),
        (RuntimeError("closed"), "RUNNING", 1, "lost the log of job_1 (closed); the job goes on:"),
        (None, "RUNNING", 1, "the log of job_1 ended early; the job goes on:"),
        (None, "FAILED", 1, "job job_1 ended as FAILED: ray job logs --address=http://localhost:8265 job_1"),
    ],
)
def test_an_end_that_is_no_success_says_what_to_do_next(ray, monkeypatch, capsys, ends_with, status, code, message):
    monkeypatch.setattr(ray, "ends_with", ends_with)
    monkeypatch.setattr(ray, "status", status)
    assert main(["launch", str(RECIPE)]) == code
    assert capsys.readouterr().err.startswith(f"fipo: {message}")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://nowhere:1", "Failed to connect to Ray"),
        (
            "http://closed:1",
            "Unauthorized: Missing authentication token; "
            "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's token",
        ),
    ],
)
def test_a_cluster_that_takes_no_job_is_one_line(ray, monkeypatch, capsys, address, reason):
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert main(["launch", str(RECIPE)]) == 2
    assert capsys.readouterr().err == f"fipo: RAY_ADDRESS {address} took no job: {reason}\n"


def test_the_script_of_the_original_is_one_line_over_fipo_launch():
    script = (FOLDER / "run_fipo_qwen2.5_32b.sh").read_text().splitlines()
    assert len(script) == 2 and "fipo launch" in script[1]
