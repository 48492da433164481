import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.slow


def test_the_check_of_a_gpu_runs_through_on_small_sizes_without_one(repository: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("it is large here")
    done = _check(repository, tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("no CUDA device: small sizes on the CPU")
    result = json.loads((tmp_path / "gpu_check.json").read_text())
    assert (result["device"], result["small"]) == ("cpu", True)
    assert not [name for name, section in result["sections"].items() if "skipped" in section and name != "sanitizer"]
    assert result["sections"]["engine"]["follows_weights"]
    assert result["sections"]["resume"]["weights_equal"]


def test_a_section_that_fails_is_printed_and_the_next_one_goes_on(repository: Path, tmp_path: Path) -> None:
    done = _check(repository, tmp_path, "--only", "decode,environment", "--vllm", "/no/such/python")
    assert done.returncode == 1
    assert "FAILED decode" in done.stdout
    sections = json.loads((tmp_path / "gpu_check.json").read_text())["sections"]
    assert sections["decode"]["failed"].startswith("FileNotFoundError: ")
    assert "torch" in sections["environment"]


def test_a_section_whose_process_dies_is_printed_and_the_next_one_goes_on(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(repository / "bench"))
    check = import_module("gpu_check")
    monkeypatch.setattr(check, "prepare", lambda: None)
    monkeypatch.setattr(check.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=-6))
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--out", str(tmp_path), "--only", "decode,gap"])
    assert check.main() == 1
    assert "FAILED decode: its process ended with exit code -6\nFAILED gap: " in capsys.readouterr().out


def test_a_section_that_does_not_exist_is_named(repository: Path, tmp_path: Path) -> None:
    done = _check(repository, tmp_path, "--only", "decode,sdpa")
    assert done.returncode == 2
    assert done.stderr.endswith("got sdpa\n")


def _check(repository: Path, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(repository / "bench" / "gpu_check.py"), "--out", str(out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)
