import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parent.parent / "src" / "fipo"


def test_the_package_can_be_imported_where_it_is_not_installed(tmp_path: Path) -> None:
    """As on a borrowed machine, with the sources on the path and nothing else."""
    (tmp_path / "fipo").mkdir()
    for name in ("__init__.py", "moved.py"):
        (tmp_path / "fipo" / name).write_bytes((SOURCES / name).read_bytes())
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import fipo; print(fipo.__version__)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0+source\n", "")
