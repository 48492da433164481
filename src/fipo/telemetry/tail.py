"""The lines of a file that grows, read once each."""

import os
from pathlib import Path
from typing import Any

from fipo.telemetry.lines import parse_line


class Tail:
    """`lines()` again and again: everything so far. A file that was replaced (a resumed run) is read anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._forget()

    def _forget(self) -> None:
        self._records: list[dict[str, Any]] = []
        self._inode = -1
        self._offset = 0  # of the first byte that is not yet in a whole line

    def lines(self) -> list[dict[str, Any]]:
        """The whole lines, without half of one at the end; [] while there is no file.

        Raises UserError naming the file and the line that is no JSON.
        """
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._forget()
                    self._inode = status.st_ino
                file.seek(self._offset)
                new = file.read()
        except FileNotFoundError:
            self._forget()
            return []
        for line in new.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            self._records.append(parse_line(self.path, len(self._records) + 1, line))
            self._offset += len(line)
        return list(self._records)
