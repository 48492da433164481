"""A hook of the site: what a page links to outside docs/ is not on the site, and stands there as its path."""

import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)(#[^)\s]*)?\)")
ROOT = Path(__file__).parents[1]


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Raises FileNotFoundError for a link to a file that the repository does not have."""
    folder = Path(page.file.abs_src_path).parent

    def plain(match: re.Match[str]) -> str:
        text, target = match[1], (folder / match[2]).resolve()
        if target.is_relative_to(ROOT / "docs"):
            return match[0]
        if not target.exists():
            raise FileNotFoundError(f"{page.file.src_path} links to {match[2]}, which is not there")
        path = target.relative_to(ROOT).as_posix()
        return text if path in text or text.strip("`") in path else f"{text} (`{path}`)"

    return LINK.sub(plain, markdown)
