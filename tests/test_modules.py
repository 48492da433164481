import sys
from pathlib import Path

import pytest

from fipo.modules import source_sha256


def digest_of(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> str:
    """Of a module that is imported afresh."""
    monkeypatch.syspath_prepend(folder)
    for module in [other for other in sys.modules if other.startswith("of_a_user")]:
        monkeypatch.delitem(sys.modules, module)
    __import__(name)
    return source_sha256(name)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "of_a_user"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "helper.py").write_text("NUMBER = 1\n")
    (folder / "unused.py").write_text("")
    (folder / "grader.py").write_text("from of_a_user import helper\n")
    return folder


@pytest.mark.parametrize(
    ("file", "same"), [("grader.py", False), ("helper.py", False), ("__init__.py", False), ("unused.py", True)]
)
def test_another_line_in_what_was_imported_is_another_source(
    package: Path, monkeypatch: pytest.MonkeyPatch, file: str, same: bool
) -> None:
    before = digest_of(package.parent, monkeypatch, "of_a_user.grader")
    with (package / file).open("a") as source:
        source.write("# a change\n")
    assert (digest_of(package.parent, monkeypatch, "of_a_user.grader") == before) == same
