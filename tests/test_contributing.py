"""CONTRIBUTING.md says where the tests of each module are."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "fipo"


def rows() -> list[tuple[list[str], list[str]]]:
    """(patterns of modules, test files) of each row of the table."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    lines = page.partition("| modules | covered by |\n")[2].partition("\n\n")[0].splitlines()[1:]
    return [tuple(re.findall(r"`([^`]+)`", column) for column in line.strip("|").split("|")) for line in lines]


def modules() -> dict[str, Path]:
    """Each module's name, as the table has it, and the file that would hold its own tests."""
    paths = [path.relative_to(SOURCES) for path in SOURCES.rglob("*.py") if path.stem != "__init__"]
    tests = {str(path.with_suffix("")): ROOT / "tests" / path.parent / f"test_{path.name}" for path in paths}
    return {name: test for name, test in tests.items() if not name.endswith("__main__")}


def test_every_module_has_tests_of_its_own_or_a_row_that_says_what_covers_it() -> None:
    patterns = [pattern for row, _ in rows() for pattern in row]
    assert len(patterns) > 20
    missing = [
        name
        for name, test in modules().items()
        if not test.is_file() and not any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
    assert missing == []


def test_every_row_speaks_of_modules_and_tests_that_are_there() -> None:
    alone = [name for name, test in modules().items() if not test.is_file()]
    for patterns, tests in rows():
        assert tests
        for pattern in patterns:
            assert any(fnmatchcase(name, pattern) for name in alone), pattern
        for test in tests:
            assert (ROOT / test).is_file(), test


def test_every_room_stands_in_the_list() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    listed = page.partition("| room | holds |\n")[2].partition("\n\n")[0]
    named = {name.strip("/") for line in listed.splitlines() for name in re.findall(r"`([^`]+)`", line.split("|")[1])}
    packages = {path.parent.name for path in SOURCES.glob("*/__init__.py")}
    modules = {path.stem for path in SOURCES.glob("*.py")} - {"__init__", "moved"}  # old import paths go with 0.8
    assert packages | modules == {name for name in named if "/" not in name}
    assert [name for name in named if not (SOURCES / name).is_dir() and name not in modules] == []
