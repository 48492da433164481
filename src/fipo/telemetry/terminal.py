"""What reaches a terminal. Text of models, servers, data and keys is shown and never obeyed, in any encoding."""

import os
import re
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

LONGEST_LINE = 400  # characters of what a command that failed says
# What a terminal obeys, what turns the direction of text, other ends of lines, and halves of characters.
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
IN_LINE = re.compile(f"[\n\t]|{OBEYED.pattern}")
OF_LIBRARIES = re.compile(f"(?!\r){OBEYED.pattern}")  # their progress bars return to the begin of a line


def visible(text: str, obeyed: re.Pattern[str] = OBEYED) -> str:
    r"""`text` with what a terminal would obey as Python writes it, `\x1b` or `\u202e`; lines stay lines."""
    return obeyed.sub(lambda found: ascii(found[0])[1:-1], text)


def in_one_line(text: str, longest: int | None = None) -> str:
    r"""The same in one line, its ends of lines as `\n`; longer than `longest` characters it loses its middle."""
    line = visible(text, IN_LINE)
    if longest is None or len(line) <= longest:
        return line
    end = longest // 3
    return f"{line[: longest - end - 5]} ... {line[-end:]}"


def say_failure(text: str) -> None:
    """The one line on stderr of a command that failed. Where it cannot be written the exit code says enough."""
    with suppress(OSError, ValueError):
        print(in_one_line(f"fipo: {text}", LONGEST_LINE), file=sys.stderr, flush=True)


def called_as(program: str, folder: Path = Path()) -> str:
    """How the user calls `fipo`, once in `folder`: by its name where that finds it, else by the path of it."""
    if Path(program).name != "fipo" or shutil.which("fipo") == program:
        return "fipo"
    path = Path(program)
    near = not path.is_absolute() or path.is_relative_to(Path.cwd())
    return shlex.quote(os.path.relpath(path, folder) if near else str(path))


def prepare_output() -> None:
    """For a program: stdin, stdout and stderr exist, and what is printed there is visible and never an error."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed, and the next file that is opened would take its place
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = _Shown(sys.stdout or os.fdopen(1, "w", closefd=False), OBEYED)
    sys.stderr = _Shown(sys.stderr or os.fdopen(2, "w", closefd=False), OF_LIBRARIES)


class _Shown:
    """A text stream. rich, whose own escape sequences are meant, writes around it."""

    def __init__(self, stream: Any, obeyed: re.Pattern[str]) -> None:
        self.rich_proxied_file = stream
        self._obeyed = obeyed
        stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        written: int = self.rich_proxied_file.write(visible(text, self._obeyed))
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)
