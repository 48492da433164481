"""On the metrics and credit of a rehearsal: the real verl trainer, two steps."""

import json
import math
from pathlib import Path

import pytest

from fipo.launch.collect import collect, main, translate
from fipo.report import write_report

RUN = Path(__file__).parent / "verl_run"


@pytest.fixture
def collected(tmp_path: Path):
    return collect([RUN / "metrics.jsonl"], tmp_path / "run", credit=RUN / "credit", dumps=None)


def verl_values(step: int) -> dict[str, float]:
    lines = [json.loads(line) for line in (RUN / "metrics.jsonl").read_text().splitlines()]
    return next(line["data"] for line in lines if line["step"] == step)


def test_every_step_is_there_once_under_our_names(collected) -> None:
    lines = collected.read_metrics()
    assert [line["step"] for line in lines] == [0, 1, 2]
    verl = verl_values(1)
    assert lines[1]["policy/kl"] == verl["actor/policy/kl"]
    assert lines[1]["policy/grad_norm"] == verl["actor/grad_norm"]
    assert lines[1]["fipo/influence_weight/max"] == verl["actor/fipo/influence_weight/max"]
    assert lines[1]["response_length/truncated"] == verl["response_length/clip_ratio"]
    assert lines[1]["verl/critic/advantages/max"] == verl["critic/advantages/max"]
    assert lines[0]["eval/avg_at_k"] == verl_values(0)["val-core/signed_sums/acc/mean@1"]


def test_a_mean_of_squares_becomes_the_standard_deviation(collected) -> None:
    mean, square = (verl_values(1)[f"actor/fipo/influence_weight/{name}"] for name in ("mean", "mean_square"))
    line = collected.read_metrics()[1]
    assert line["fipo/influence_weight/std"] == pytest.approx(math.sqrt(square - mean**2))
    assert "fipo/influence_weight/mean_square" not in line


def test_evaluations_with_several_samples_and_sources_are_averaged() -> None:
    ours = translate(
        {
            "val-core/a/acc/mean@32": 0.5,
            "val-core/b/c/acc/mean@32": 0.1,
            "val-core/a/acc/mean@1": 0.9,
            "val-core/a/acc/maj@16/mean": 0.2,
            "val-core/a/acc/maj@32/mean": 0.6,
            "val-core/a/acc/maj@32/std": 0.7,
            "val-core/a/acc/best@32/mean": 0.8,
        }
    )
    assert {key: value for key, value in ours.items() if key.startswith("eval/")} == {
        "eval/avg_at_k": pytest.approx(0.3),
        "eval/cons_at_k": 0.6,
        "eval/pass_at_k": 0.8,
    }


def test_rollouts_keep_their_credit_and_dumps_get_our_names(tmp_path: Path) -> None:
    dumps = tmp_path / "dumps"
    dumps.mkdir()
    dumped = {"input": "1+2=", "output": "#3", "gts": "3", "score": 1.0, "step": 2, "uid": "0_0_0"}
    (dumps / "2.jsonl").write_text(json.dumps(dumped) + "\n")
    run = collect([RUN / "metrics.jsonl"], tmp_path / "run", credit=RUN / "credit", dumps=dumps)
    assert len(run.read_rollouts(1)) == 2
    with_credit, plain = run.read_rollouts(2)
    assert len(with_credit["influence_weight"]) == len(with_credit["tokens"])
    assert plain == {"step": 2, "prompt": "1+2=", "response": "#3", "expected": "3", "reward": 1.0}


def test_a_step_that_a_resumed_job_wrote_again_counts_as_in_the_later_file(tmp_path: Path) -> None:
    later = tmp_path / "later.jsonl"
    later.write_text(json.dumps({"step": 2, "data": {"actor/grad_norm": 7.0}}) + "\n")
    run = collect([RUN / "metrics.jsonl", later], tmp_path / "run", credit=None, dumps=None)
    assert run.read_metrics()[2] == {"step": 2, "policy/grad_norm": 7.0}


def test_the_report_draws_it(collected, tmp_path: Path) -> None:
    write_report([collected], tmp_path / "report.html")
    assert "Influence weight f" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("", "holds no steps"),
        ("{", "not JSON lines: "),
        ('{"step": 1}\n', "each line must have step and data, as verl's file logger writes, got {'step': 1}"),
    ],
)
def test_what_is_no_metrics_file_is_refused_in_one_line(content: str, rule: str, tmp_path: Path, capsys) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(content)
    assert main([str(path), "--out", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"fipo: {path}: {rule}") and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_missing_file_and_an_existing_run_are_refused_in_one_line(collected, tmp_path: Path, capsys) -> None:
    assert main([str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "other")]) == 2
    assert main([str(RUN / "metrics.jsonl"), "--out", str(collected.path)]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"fipo: {tmp_path}/none.jsonl: No such file or directory"
    assert second.startswith(f"fipo: {collected.path}: a run is already there")
