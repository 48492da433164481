"""help() of every public name of the Python API: shapes, and an example that runs."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

import fipo.evaluation
import fipo.objective

PAGES = Path(__file__).parents[2] / "docs" / "api"
ELSEWHERE = "fipo.integrations.trl"  # tests/integrations/trl/test_rewards.py runs what needs TRL


def named(entry):
    """The (module, name) of an entry of docs/api: all names of a module, or one object."""
    try:
        module = importlib.import_module(entry)
        return [(module, name) for name in module.__all__]
    except ModuleNotFoundError:
        place, _, name = entry.rpartition(".")
        return [(importlib.import_module(place), name)]


PUBLIC = [
    (module, name)
    for page in sorted(PAGES.glob("*.md"))
    for entry in re.findall(r"^::: (\S+)$", page.read_text(), re.M)
    if not entry.startswith(ELSEWHERE)
    for module, name in named(entry)
    if inspect.isclass(getattr(module, name)) or inspect.isfunction(getattr(module, name))
]
OF_TENSORS = [(module, name) for module, name in PUBLIC if module in (fipo.objective, fipo.evaluation)]


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=[name for _, name in PUBLIC])
def test_the_example_in_the_help_of_a_public_name_runs(module, name):
    found = getattr(module, name)
    examples = doctest.DocTestFinder(recurse=False).find(found, name, globs=vars(inspect.getmodule(found)).copy())
    assert examples and examples[0].examples, f"{name} has no example"
    runner = doctest.DocTestRunner(verbose=False)
    said = []
    failed, tried = runner.run(examples[0], out=said.append)
    assert tried and not failed, "".join(said)


@pytest.mark.parametrize(("module", "name"), OF_TENSORS, ids=[name for _, name in OF_TENSORS])
def test_the_help_of_a_public_name_shows_shapes(module, name):
    text = inspect.getdoc(getattr(module, name))
    assert "Shapes" in text or "[B, T]" in text or "[P" in text or "[]" in text, text
