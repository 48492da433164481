"""Which TRL this adapter was written against."""

import re
from importlib import metadata

from fipo.extras import install_hint

SUPPORTED = "trl>=1.16,<1.17"  # as in the extra `trl` of pyproject.toml
SERIES = re.compile(r"1\.16(\D|$)")


def require_trl() -> None:
    """Raise ImportError with one line unless a supported TRL is installed."""
    try:
        found = metadata.version("trl")
    except metadata.PackageNotFoundError:
        found = "none"
    if not SERIES.match(found):
        raise ImportError(f"fipo.integrations.trl must have {SUPPORTED}, got {found}: {install_hint('trl')}")
