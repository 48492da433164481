"""help() of every public name of the Python API: shapes, and an example that runs."""

import doctest
import inspect

import pytest

import fipo.evaluation
import fipo.objective
import fipo.training

PUBLIC = [
    (module, name)
    for module in (fipo.objective, fipo.evaluation, fipo.training)
    for name in module.__all__
    if inspect.isclass(getattr(module, name)) or inspect.isfunction(getattr(module, name))
    if name != "train"  # which tests/starter runs
]


def documentation(module, name):
    return inspect.getdoc(getattr(module, name))


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=[name for _, name in PUBLIC])
def test_the_example_in_the_help_of_a_public_name_runs(module, name):
    found = getattr(module, name)
    examples = doctest.DocTestFinder(recurse=False).find(found, name, globs=vars(inspect.getmodule(found)).copy())
    assert examples and examples[0].examples, f"{name} has no example"
    runner = doctest.DocTestRunner(verbose=False)
    said = []
    failed, tried = runner.run(examples[0], out=said.append)
    assert tried and not failed, "".join(said)


@pytest.mark.parametrize(
    ("module", "name"), [each for each in PUBLIC if each[0] is not fipo.training], ids=lambda each: str(each)[:40]
)
def test_the_help_of_a_public_name_shows_shapes(module, name):
    text = documentation(module, name)
    assert "Shapes" in text or "[B, T]" in text or "[P" in text or "[]" in text, text
