"""The import-linter contracts of pyproject.toml say something of every package."""

import tomllib
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "src" / "fipo"


def layered_modules() -> set[str]:
    """The modules that the contract of layers names."""
    settings = tomllib.loads((SOURCES.parents[1] / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = (contract for contract in settings["contracts"] if contract["type"] == "layers")
    return {module.strip() for layer in contract["layers"] for module in layer.replace(":", "|").split("|")}


def parts_of(folder: Path, name: str) -> set[str]:
    """The modules and packages that stand in a package."""
    modules = {f"{name}.{path.stem}" for path in folder.glob("*.py") if path.stem != "__init__"}
    return modules | {f"{name}.{path.parent.name}" for path in folder.glob("*/__init__.py")}


def test_every_package_stands_in_a_layer_or_all_its_parts_do():
    layered = layered_modules()
    missing = {
        name
        for name in parts_of(SOURCES, "fipo") - layered
        if not parts_of(SOURCES / name.removeprefix("fipo."), name) <= layered
        or not parts_of(SOURCES / name.removeprefix("fipo."), name)
    }
    assert missing == set()


def test_every_layer_is_there():
    for name in layered_modules():
        path = SOURCES.parent / name.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), name
