from pathlib import Path

import pytest
from tests.faults.small_run import make_small_run
from tests.training.helpers import keep, restored, run_recipe

from fipo.telemetry.run_directory import RunDirectory


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model, data and a recipe."""
    make_small_run(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The run of the recipe as it stands, from its beginning to its end; for all tests, so that none may change it."""
    folder = tmp_path_factory.mktemp("whole")
    make_small_run(folder)
    return run_recipe(folder, "whole")


@pytest.fixture(scope="session")
def _first_half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    used = tmp_path_factory.mktemp("halfway") / "used"
    used.mkdir()
    make_small_run(used)
    run_recipe(used, "run", run__steps="2")
    return keep(used)


@pytest.fixture
def halfway(_first_half: Path) -> Path:
    """A folder like `folder` with a run of the name `run` that has done two of its four steps, as if made anew."""
    return restored(_first_half)
