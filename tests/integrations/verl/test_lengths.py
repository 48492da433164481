"""Lengths that do not fit are refused before any GPU is reserved; none of this needs verl."""

import json
from pathlib import Path
from typing import Any

import pytest

from fipo.cli import main
from fipo.integrations.verl.lengths import MODEL, OVERRIDE, ROLLOUT, TOLD, check_lengths, positions_of

JOB = {f"{ROLLOUT}.name": "vllm", "data.max_prompt_length": 2048, "data.max_response_length": 10240}
RECIPE = Path(__file__).parents[3] / "recipe" / "fipo" / "fipo_qwen2.5_7b_math.toml"


@pytest.fixture
def short_model(tmp_path: Path) -> str:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 4096}))
    return str(tmp_path)


def check(changes: dict[str, Any], model: str = "/nowhere") -> None:
    check_lengths((JOB | changes).get, model)


def test_lengths_that_both_verl_and_vllm_know_of_pass(short_model: str) -> None:
    check({})  # nothing is known of the model
    check({OVERRIDE: 32768, TOLD: 32768}, short_model)
    check({OVERRIDE: 32768, f"{ROLLOUT}.name": "sglang"}, short_model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({OVERRIDE: 32768}, f"{TOLD} must be 32768, as {OVERRIDE} is: vLLM reads config.json itself; got None"),
        ({}, f"must be at most 4096, .* got 2048 .* 10240: set {OVERRIDE} and {TOLD}"),
        ({f"{ROLLOUT}.max_model_len": 12288}, "max_model_len must be at most the model's .* 4096, got 12288"),
        ({OVERRIDE: 8192, TOLD: 8192}, "must be at most 8192"),
    ],
)
def test_lengths_that_do_not_fit_are_refused_in_one_line(
    short_model: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check(changes, short_model)


def test_a_model_says_how_long_it_is_at_either_place_of_its_config(tmp_path: Path, short_model: str) -> None:
    assert positions_of(Path(short_model)) == 4096
    (tmp_path / "config.json").write_text('{"text_config": {"max_position_embeddings": 77}}')
    assert positions_of(tmp_path) == 77
    for odd in ("{}", "[]", '{"text_config": null}', "[" * 100_000, '{"max_position_embeddings": "x"}'):
        (tmp_path / "config.json").write_text(odd)
        assert positions_of(tmp_path) is None
    assert positions_of(tmp_path) is None and positions_of(tmp_path / "none") is None


def test_the_launcher_refuses_a_7b_job_that_vllm_would_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", str(RECIPE), "--dry-run", f"--verl.{TOLD}", "4096"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"fipo: verl.{TOLD} must be 32768, as {MODEL}.override_config") and error.count("\n") == 1
