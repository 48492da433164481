import os
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from fipo.errors import UserError
from fipo.extras import install_hint
from fipo.grading.registry import GraderName, resolve
from fipo.grading.workers.pool import GraderPool
from fipo.grading.workers.system import descendants

OURS = ["number", "exact", "dapo", "math", "countdown", "relay", "reasoning_gym"]
NAMES = [*OURS, "mine:grade", "my.own_graders:grade_2"]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_may_name_a_grader_of_ours_or_a_function_of_the_users(name):
    assert TypeAdapter(GraderName).validate_python(name) == name


@pytest.mark.parametrize(
    "name", ["llm", "", "mine", "mine:", ":grade", "my/own:grade", "a:b:c", "1a:b", "a:b()", "a b:c"]
)
def test_a_recipe_may_name_nothing_else(name):
    with pytest.raises(ValidationError, match=r"must be one of number, exact, dapo, math, .* or module:function, got "):
        TypeAdapter(GraderName).validate_python(name)


@pytest.mark.parametrize("name", NAMES[:6])
def test_a_grader_of_ours_is_had_by_its_name(name):
    if name == "reasoning_gym":
        pytest.importorskip(name)
    assert resolve(name).name == name


MISSING = [
    ("reasoning_gym", "reasoning_gym", "gym", install_hint("gym")),
]


@pytest.mark.parametrize(("name", "package", "module", "command"), MISSING, ids=[row[0] for row in MISSING])
def test_a_missing_package_is_named_by_the_command_that_installs_it(name, package, module, command, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"fipo.grading.answers.{module}", raising=False)
    with pytest.raises(UserError) as refused:
        resolve(name)
    assert str(refused.value) == f"grader {name!r} needs another package: {command}"


REFUSED = [
    ("llm", f"grader: must be one of {', '.join(OURS)} or module:function, got 'llm'"),
    ("no_such_module:grade", "grader 'no_such_module:grade': cannot import 'no_such_module': ModuleNotFoundError: "),
    ("misbehaving:no_such", "grader 'misbehaving:no_such': module 'misbehaving' has no function 'no_such'"),
    ("misbehaving:NOT_CALLABLE", "grader 'misbehaving:NOT_CALLABLE': module 'misbehaving' has no function"),
    ("broken_grader:grade", "grader 'broken_grader:grade': importing 'broken_grader' raised ValueError: broken"),
    ("leaving_grader:grade", "grader 'leaving_grader:grade': its worker exited with status 3 before it was ready"),
    (
        "complaining_grader:grade",
        "grader 'complaining_grader:grade': its worker exited with status 3 before it was ready: it needs a licence",
    ),
    ("forking_grader:grade", "grader 'forking_grader:grade': importing it must not leave processes behind"),
]
MODULES = {
    "broken_grader": "raise ValueError('broken\\nin two lines')",
    "leaving_grader": "import os; os._exit(3)",
    "complaining_grader": "import os; os.write(2, b'Traceback\\nit needs a licence\\n\\n'); os._exit(3)",
    "forking_grader": "import os, time; os.fork() or time.sleep(60); grade = print",
}


@pytest.mark.parametrize(("grader", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_grader_that_cannot_be_had_is_refused_in_one_line_when_the_pool_starts(
    grader, message, tmp_path, monkeypatch
):
    module = grader.split(":")[0]
    if module in MODULES:
        (tmp_path / f"{module}.py").write_text(MODULES[module])
    monkeypatch.chdir(tmp_path if module in MODULES else Path(__file__).parent / "workers")
    already_there = descendants(os.getpid())
    pool = GraderPool(grader, workers=2, deadline_seconds=1, memory_mib=256)
    with pytest.raises(UserError) as refused:
        pool.start()
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)
    assert set(descendants(os.getpid())) <= set(already_there)


def test_a_name_that_is_nearly_right_gets_a_suggestion(tmp_path, monkeypatch):
    (tmp_path / "of_some_user.py").write_text("def close_enough(response, problem): return 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"got 'maths' \(did you mean math\?\)"):
        resolve("maths")
    with pytest.raises(UserError, match=r"has no function 'close_enuf' \(did you mean close_enough\?\)"):
        resolve("of_some_user:close_enuf")


def test_a_module_that_is_nowhere_is_refused_with_where_it_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="it is looked for beside the recipe and in .*" + tmp_path.name):
        resolve("of_nobody:grade")
