"""The two starts of a rehearsal, with a stand-in for the module that needs verl; make test-verl runs the real one."""

import json
from pathlib import Path

import pytest

from fipo.errors import RunStopped, UserError
from fipo.integrations.verl.launch import rehearse as module
from fipo.integrations.verl.launch.rehearse import rehearse
from fipo.integrations.verl.launch.rehearsed import done_steps, summary

JOB = ["algorithm.adv_estimator=grpo", "+actor_rollout_ref.actor.policy_loss.preset=release_32b"]
STAND_IN = """
import json, pathlib, sys
words = sys.argv[1:]
with open({written!r}, "a") as file:
    file.write(json.dumps(words) + "\\n")
folder = pathlib.Path(next(word for word in words if word.startswith("--folder="))[len("--folder="):])
step = int(words[-1].rpartition("=")[2])
with open(folder / "log.txt", "a") as log:
    log.write("Traceback\\nValueError: what went wrong\\n")
if step == 2 and pathlib.Path("code").read_text() != "0":
    sys.exit(int(pathlib.Path("code").read_text()))
checkpoints = folder / "checkpoints"
checkpoints.mkdir(exist_ok=True)
(checkpoints / "latest_checkpointed_iteration.txt").write_text(str(step))
metrics = json.loads(pathlib.Path({metrics!r}).read_text())
# a second start begins with an evaluation of step 1
base = {{"step": 0, "data": {{"val-core/signed_sums/acc/mean@1": 0.5}}}}
resumed = {{"step": 1, "data": {{"val-core/signed_sums/acc/mean@1": 0.75}}}}
lines = [base if step == 1 else resumed, {{"step": step, "data": metrics}}]
(checkpoints / f"metrics_00{{step}}.jsonl").write_text("".join(json.dumps(line) + "\\n" for line in lines))
"""
STEP = {
    **{"groups/generated": 12.0, "groups/kept": 8.0, "groups/all_wrong": 3.0, "groups/all_correct": 1.0},
    **{"reward/mean": -0.25, "reward/overlong": -0.125, "accuracy/mean": 0.375, "grade/failed": 0.0},
    **{"actor/fipo/mini_batch_0/influence_weight/mean": 1.0, "actor/fipo/mini_batch_0/influence_weight/std": 0.0},
    **{"actor/fipo/mini_batch_1/influence_weight/mean": 1.02, "actor/fipo/mini_batch_1/influence_weight/std": 0.05},
    **{"actor/fipo/raw_influence_weight/min": 0.5, "actor/fipo/raw_influence_weight/max": 1.25},
    **{"actor/fipo/influence_weight/clipped_low": 0.25, "actor/fipo/influence_weight/clipped_high": 0.125},
    **{"actor/policy/clip_fraction": 0.01, "actor/fipo/kept_token_share": 1.0, "actor/grad_norm": 0.25},
    **{"actor/rollout/logprob_gap/max": 1e-6, "timing_s/step": 20.0, "val-core/signed_sums/acc/mean@1": 0.75},
}
TWELVE = """rehearsal of job: two steps through verl's own trainer, nothing failed
resume: the last start went on behind the checkpoint of step 1
groups: 12 generated for 8 kept (3 all wrong, 1 all right), 12 generated for 8 kept (3 all wrong, 1 all right)
reward: -0.25, -0.25; of it overlong penalty: -0.125, -0.125
grades: correct 0.375, 0.375; failed 0, 0
validation accuracy: step 0 50%, step 1 75%, step 2 75%
weights f by mini-batch, mean +- sd: step 1: 1.0000 +- 0.0000, 1.0200 +- 0.0500
weights f by mini-batch, mean +- sd: step 2: 1.0000 +- 0.0000, 1.0200 +- 0.0500
exp(FutureKL): 0.5 to 1.25, 0.5 to 1.25; share beyond the bounds of f: 0.375, 0.375
share of tokens clipped: 0.01, 0.01; kept by the filter of sequences: 1, 1
gradient norm: 0.25, 0.25; largest gap of sampler and trainer, nats a token: 1e-06, 1e-06
seconds: 20, 20; metrics, checkpoints and the log are in """


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The arguments of each start."""
    written, metrics = tmp_path / "starts.jsonl", tmp_path / "step.json"
    metrics.write_text(json.dumps(STEP))
    (tmp_path / "stand_in.py").write_text(STAND_IN.format(written=str(written), metrics=str(metrics)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(module, "MODULE", "stand_in")
    monkeypatch.setattr(module, "find_spec", lambda _: object())
    Path("code").write_text("0")
    return lambda: [json.loads(line) for line in written.read_text().splitlines()]


def test_a_job_is_started_for_one_step_and_again_to_resume_and_ends_with_twelve_lines(
    starts, tmp_path: Path, capsys
) -> None:
    folder = tmp_path / "runs" / "job"
    rehearse(JOB, folder, 2)
    first, second = starts()
    assert [word for word in first if word.startswith("--")] == [
        f"--log={folder / 'log.txt'}",
        f"--folder={folder}",
        "--ranks=2",
        f"--job={folder / 'job.json'}",
    ]
    assert first[-1] == "trainer.total_training_steps=1" and second[-1] == "trainer.total_training_steps=2"
    assert [word for word in second[:-1] if word != "--again"] == first[:-1]
    assert json.loads((folder / "job.json").read_text()) == {"ranks": 2, "job": JOB}
    out = capsys.readouterr().out
    assert "on 2 CPU ranks" in out
    assert out.splitlines()[-12:] == f"{TWELVE}{folder}".splitlines()


def test_a_start_that_fails_ends_the_rehearsal_with_its_last_words_and_the_same_command_goes_on(
    starts, tmp_path: Path
) -> None:
    Path("code").write_text("3")
    with pytest.raises(RunStopped, match=r"exit code 3: ValueError: what went wrong; see .*log.txt"):
        rehearse(JOB, tmp_path / "job", 1)
    Path("code").write_text("0")
    rehearse(JOB, tmp_path / "job", 1)
    assert [start[-1][-1] for start in starts()] == ["1", "2", "2"]
    rehearse(JOB, tmp_path / "job", 1)  # nothing is left to do
    assert len(starts()) == 3


@pytest.mark.parametrize("sign", ["", "+", "++"])
def test_what_of_the_job_is_not_tried_is_said_with_the_name_of_its_grader(starts, tmp_path: Path, capsys, sign) -> None:
    rehearse([*JOB, f"{sign}reward.custom_reward_function.reward_kwargs.grader=dapo"], tmp_path / "job", 1)
    assert capsys.readouterr().out.splitlines()[0] == (
        "rehearsal: a tiny model of ours and its sums, graded by number; "
        "the job's own model, data and grader dapo are not tried"
    )


def test_a_step_that_was_saved_without_its_metrics_is_done_again(starts, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    rehearse(JOB, folder, 1)
    (folder / "checkpoints" / "metrics_002.jsonl").unlink()
    assert done_steps(folder) == done_steps(folder) == 1
    rehearse(JOB, folder, 1)
    assert [start[-1][-1] for start in starts()] == ["1", "2", "2"]
    assert len(summary(folder)) == 12


def test_a_start_that_hangs_is_ended(starts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "stand_in.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(module, "MINUTES", 0.01)
    with pytest.raises(RunStopped, match="was ended after"):
        rehearse(JOB, tmp_path / "job", 1)


def test_a_folder_that_is_half_made_is_no_obstacle_and_one_of_another_job_is(starts, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "train.parquet").write_bytes(b"")
    rehearse(JOB, folder, 1)
    for job, ranks in ((JOB[:1], 1), (JOB, 2)):
        with pytest.raises(UserError, match="another job was rehearsed there"):
            rehearse(job, folder, ranks)


def test_a_missing_verl_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="--rehearse needs verl"):
        rehearse(JOB, tmp_path / "job", 1)
    assert not (tmp_path / "job").exists()
