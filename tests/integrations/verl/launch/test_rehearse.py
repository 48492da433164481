import json
import sys
from pathlib import Path

import pytest

from fipo.errors import RunStopped, UserError
from fipo.integrations.verl.launch import rehearse as module
from fipo.integrations.verl.launch.rehearse import rehearse

JOB = ["algorithm.adv_estimator=grpo", "+actor_rollout_ref.actor.policy_loss.preset=release_32b"]


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The arguments of each start, of a stand-in for the module that needs verl; make test-verl runs the real one."""
    written = tmp_path / "starts.jsonl"
    stand_in = tmp_path / "stand_in.py"
    stand_in.write_text(
        f"import json, sys\nopen({str(written)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
        "sys.exit(any('total_training_steps=2' in word for word in sys.argv) * int(open('code').read()))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(module, "MODULE", "stand_in")
    monkeypatch.setattr(module, "find_spec", lambda _: object())
    Path("code").write_text("0")
    return lambda: [json.loads(line) for line in written.read_text().splitlines()]


def test_a_job_is_started_for_one_step_and_again_to_resume(starts, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "runs" / "job"
    rehearse(JOB, folder, 2)
    first, second = starts()
    assert [word for word in first if word.startswith("--")] == [
        f"--folder={folder}",
        "--ranks=2",
        f"--job={folder / 'job.json'}",
    ]
    assert first[-1] == "trainer.total_training_steps=1" and second[-1] == "trainer.total_training_steps=2"
    assert first[:-1] == second[:-1]
    assert json.loads((folder / "job.json").read_text()) == JOB
    assert "on 2 CPU ranks" in capsys.readouterr().out


def test_a_start_that_fails_ends_the_rehearsal(starts, tmp_path: Path) -> None:
    Path("code").write_text("3")
    with pytest.raises(RunStopped, match="the rehearsal failed with exit code 3"):
        rehearse(JOB, tmp_path / "job", 1)
    assert len(starts()) == 2


def test_a_start_that_hangs_is_ended(starts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "stand_in.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(module, "MINUTES", 0.01)
    with pytest.raises(RunStopped, match="was ended after"):
        rehearse(JOB, tmp_path / "job", 1)


def test_an_earlier_rehearsal_and_a_missing_verl_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="--rehearse needs verl"):
        rehearse(JOB, tmp_path / "job", 1)
    monkeypatch.setattr(module, "find_spec", lambda _: sys)
    with pytest.raises(UserError, match="an earlier rehearsal is there"):
        rehearse(JOB, tmp_path, 1)
