import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parent.parent / "src" / "fipo"
ON_PURPOSE = {  # class names that stand twice
    "FIPOTrainer": ["integrations/trl/trainer.py", "integrations/verl/v1.py"],  # each the trainer of its host
    "_Parser": ["arguments.py", "grading/latex/parser.py"],  # each private to its file
}


def nodes(*kinds: type[ast.AST]) -> Iterator[tuple[str, Any]]:
    """(file under src/fipo, node), of all files."""
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, kinds):
                yield str(path.relative_to(SOURCES)), node


def test_the_package_can_be_imported_where_it_is_not_installed(tmp_path: Path) -> None:
    """As on a borrowed machine, with the sources on the path and nothing else."""
    (tmp_path / "fipo").mkdir()
    for name in ("__init__.py", "moved.py"):
        (tmp_path / "fipo" / name).write_bytes((SOURCES / name).read_bytes())
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import fipo; print(fipo.__version__)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0+source\n", "")


def test_nothing_asks_for_the_version_of_an_installed_fipo():
    """But its own file, which does without. A borrowed machine has the sources alone."""
    calls = [
        path
        for path, node in nodes(ast.Call)
        if getattr(node.func, "id", getattr(node.func, "attr", "")) == "version"
        and any(isinstance(word, ast.Constant) and word.value == "fipo" for word in node.args)
    ]
    assert calls == ["__init__.py"]


COMMAND = """
import importlib.metadata, sys
found = importlib.metadata.distribution

def distribution(name):
    if name == "fipo":
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)

importlib.metadata.distribution = distribution
from fipo.cli import main
from fipo.evaluation.score import versions

assert versions()["fipo"] == "0+source"
sys.exit(main(sys.argv[1:]))
"""


def test_the_command_runs_and_trains_where_fipo_is_not_installed(tmp_path: Path) -> None:
    small = {"run.name": "source", "run.folder": str(tmp_path), "run.steps": "1", "update.warmup_steps": "0"}
    small |= {"rollout.groups": "2", "rollout.group_size": "2", "rollout.generation_batch": "2"}
    small |= {"rollout.max_response_tokens": "8", "rollout.max_generation_batches": "1", "update.mini_batches": "1"}
    small |= {"data.eval.count": "2", "eval.samples": "1", "grading.workers": "1"}
    words = [word for key, value in small.items() for word in (f"--{key}", value)]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "train", "quickstart", *words], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert 'fipo = "0+source"' in (tmp_path / "source" / "config.toml").read_text()


def test_a_class_name_means_one_thing():
    places: dict[str, list[str]] = {}
    for path, node in nodes(ast.ClassDef):
        places.setdefault(node.name, []).append(path)
    assert {name: found for name, found in places.items() if len(found) > 1} == ON_PURPOSE


def test_no_file_has_more_than_300_lines_and_no_function_more_than_90():
    files = {str(path): len(path.read_text().splitlines()) for path in SOURCES.rglob("*.py")}
    assert {path: lines for path, lines in files.items() if lines > 300} == {}
    functions = nodes(ast.FunctionDef, ast.AsyncFunctionDef)
    assert [(path, node.name) for path, node in functions if node.end_lineno - node.lineno >= 90] == []


def test_no_docstring_begins_in_the_middle_of_a_sentence():
    beginnings = [(path, line.strip()) for path in SOURCES.rglob("*.py") for line in path.read_text().splitlines()]
    assert [(path, line) for path, line in beginnings if line.startswith('"""Of ')] == []
