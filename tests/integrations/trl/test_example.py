"""The example that docs/integrations.md names."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl", reason="TRL is not installed here; make test-trl has an environment with it")


@pytest.mark.slow
def test_the_example_trains_and_says_what_it_reached(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(repository / "examples" / "trl_signed_sums.py"), "--generations", "2"],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    *generations, last = done.stdout.strip().splitlines()
    assert re.fullmatch(r"correct on 64 held-out problems, 4 responses each: [0-9.]+% before, [0-9.]+% after", last)
    assert len([line for line in generations if "influence weight in the first mini-batch 1.0000" in line]) == 2
