"""Lines of JSON in the files of a run. A process that was killed can leave half of one at the end."""

import json
from pathlib import Path
from typing import Any

from fipo.errors import UserError
from fipo.files import refuse_odd


def whole_lines(path: Path) -> list[bytes]:
    """The lines that were written whole. Raises OSError for what is no regular file."""
    refuse_odd(path)
    return path.read_bytes().split(b"\n")[:-1]


def parse_line(path: Path, number: int, line: bytes) -> Any:
    """None for a number that is not finite. Raises UserError naming the file and the line that is damaged."""
    try:
        return json.loads(line, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}, line {number}: damaged: {error}") from None


def read_lines(path: Path) -> list[Any]:
    """What stands in each whole line. Raises UserError as `parse_line`."""
    return [parse_line(path, number, line) for number, line in enumerate(whole_lines(path), start=1)]
