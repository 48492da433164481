import importlib
import subprocess
import sys

import pytest

from fipo.moved import MOVED


@pytest.mark.parametrize(("old", "new"), MOVED.items(), ids=list(MOVED))
def test_an_old_import_path_gives_the_module_of_the_new_one_with_a_warning(old, new):
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is {new}"):
        module = importlib.import_module(old)
    assert module is importlib.import_module(new)
    assert module.__spec__.name == new


def test_what_an_old_path_gives_is_what_the_new_one_gives():
    code = "from fipo.tasks.grade import Grade; from fipo.grading.grade import Grade as new; print(Grade is new)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_a_program_can_be_run_by_its_old_path():
    done = subprocess.run([sys.executable, "-m", "fipo.launch.collect", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("usage:")
