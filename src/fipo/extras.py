"""How what is optional gets installed, beside the fipo that is running."""

import json
import logging
import re
import shlex
import shutil
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlparse


def install_hint(extra: str) -> str:
    """A command that installs an extra of this installation, whether it came from a folder, a wheel or an index."""
    source = _source()
    if source is None:
        what = [shlex.quote(requirement) for requirement in requirements(extra)]
    else:
        folder, editable = source
        what = ["--editable"] * editable + [shlex.quote(f"{folder}[{extra}]")]
    return " ".join([_installer(), *what])


def requirements(extra: str) -> list[str]:
    """What an extra needs, as pip takes it; [] if the installation does not say."""
    marker = re.compile(rf"""extra\s*==\s*["']{re.escape(extra)}["']""")
    try:
        every = distribution("fipo").requires or []
    except PackageNotFoundError:
        return [f"fipo[{extra}]"]
    return [need.partition(";")[0].strip() for need in every if marker.search(need)]


def import_bitsandbytes() -> None:
    """Raises ImportError without it. On some processors it would fetch a kernel from the hub and run it: it may not."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)  # it says that there is no such kernel
    kernels = sys.modules.get("kernels")
    sys.modules["kernels"] = None  # type: ignore[assignment]
    try:
        import_module("bitsandbytes")
    finally:
        del sys.modules["kernels"]
        if kernels is not None:
            sys.modules["kernels"] = kernels


def _installer() -> str:
    python = shlex.quote(sys.executable)
    if find_spec("pip") is None and shutil.which("uv"):
        return f"uv pip install --python {python}"
    return f"{python} -m pip install"


def _source() -> tuple[Path, bool] | None:
    """The folder that fipo was installed from, if it is still there, and whether it is used in place."""
    try:
        said = distribution("fipo").read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    url = json.loads(said) if said else {}
    folder = Path(unquote(urlparse(url.get("url", "")).path))
    if "dir_info" not in url or not (folder / "pyproject.toml").is_file():
        return None
    return folder, bool(url["dir_info"].get("editable"))
