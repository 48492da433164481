from pathlib import Path

import pytest
from tests.faults.small_run import make_small_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model, data and a recipe."""
    make_small_run(tmp_path)
    return tmp_path
