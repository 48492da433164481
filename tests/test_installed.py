"""What a user gets who has installed the package, and nothing else."""

import re
import subprocess
import sys
import tomllib

import pytest


def test_the_newest_transformers_that_is_allowed_is_the_one_that_is_tested(repository):
    needs = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["dependencies"]
    (bound,) = (re.search(r"<5\.(\d+)$", need) for need in needs if need.startswith("transformers"))
    pinned = re.search(r"^transformers==5\.(\d+)\.", (repository / "constraints.txt").read_text(), re.MULTILINE)
    assert int(pinned[1]) == int(bound[1]) - 1


@pytest.mark.parametrize(("options", "shown"), [([], False), (["-W", "default"], True)])
def test_what_a_library_will_change_does_not_reach_a_user_unless_asked_for(options, shown):
    program = "import warnings, fipo.cli; fipo.cli.main(['recipes']); warnings.warn('will change', FutureWarning)"
    done = subprocess.run([sys.executable, *options, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert ("will change" in done.stderr) is shown
