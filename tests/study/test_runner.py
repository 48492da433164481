import pytest

from fipo.study.runner import why_failed


@pytest.mark.parametrize(
    ("exit_code", "said", "reason"),
    [
        (0, "report: runs/a/report.html\n", None),
        (2, "loading\nfipo: model.path: no such model\n", "model.path: no such model"),
        (1, "", "see {log}"),
        (-9, "step 7/30\n", "ended by SIGKILL; see {log}"),
    ],
)
def test_a_run_fails_for_what_it_said_last_or_the_signal_that_ended_it(exit_code, said, reason, tmp_path):
    log = tmp_path / "run.log"
    log.write_text(said)
    assert why_failed(exit_code, log) == (reason and reason.format(log=log))
