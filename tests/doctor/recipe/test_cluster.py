"""`fipo doctor` on a recipe of `fipo launch`."""

from pathlib import Path

import pytest

from fipo.cli import main

RECIPE = str(Path(__file__).parents[3] / "recipe" / "fipo" / "fipo_qwen2.5_32b.toml")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_DATA_HOME", "/data")
    for name in ("RUNTIME_ENV", "MODEL_PATH", "TRAIN_FILE", "TEST_FILE", "NNODES", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_a_cluster_recipe_is_diagnosed_without_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", RECIPE]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("fipo_qwen2.5_32b: 128 GPUs on 16 nodes")
    assert any(line.startswith("hours of a step: ") for line in lines)
    assert any(line.startswith("warning: verl.trainer.save_freq, ") and "393 GB" in line for line in lines)
    assert lines[-1].startswith("nothing stops this run: 3 warnings, 4 notes; a CPU can try it: fipo launch ")


def test_a_job_that_does_not_fit_its_gpus_ends_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", RECIPE, "--job.gpu_memory_gib", "24"]) == 2
    out = capsys.readouterr().out
    assert "problem: job.gpu_memory_gib: a GPU needs 38.6 GiB at its peak and has 24\n  try: more GPUs" in out
    assert "this run cannot succeed as it stands" in out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--verl.trainer.save_frq", "3"], "verl 0.9.1 has no key trainer.save_frq (did you mean trainer.save_freq?)"),
        (["--memory-gib", "20"], "doctor takes --job.gpu_memory_gib for a cluster, got --memory-gib 20"),
        (
            ["--verl.trainer.v1.trainer_mode", "separate_async"],
            "verl.trainer.v1.trainer_mode must be sync, got ",
        ),
    ],
)
def test_a_mistake_is_the_line_of_fipo_launch(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", RECIPE, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"fipo: {line}") and err.count("\n") == 1
