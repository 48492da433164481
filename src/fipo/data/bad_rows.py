"""Malformed rows: each is named with its reason, and one more than the recipe allows ends the run."""

from collections.abc import Callable

from fipo.errors import UserError

NAMED = 10  # rows said one by one; the others are counted


class MalformedRow(Exception):
    """Why a row cannot be used. The message is one line: the rule and the value."""


class BadRows:
    """The malformed rows of one source, left out while there are no more of them than `budget`."""

    def __init__(self, budget: int, say: Callable[[str], None]) -> None:
        self._budget = budget
        self._say = say
        self.count = 0

    def leave_out(self, where: str, reason: str) -> None:
        """Say what is wrong with the row at `where`. Raises UserError if it is one too many."""
        self.count += 1
        if self.count > self._budget:
            raise UserError(
                f"{where}: {reason} (malformed row {self.count} of this source; "
                f"data.max_bad_rows = {self._budget} may be left out)"
            )
        if self.count <= NAMED:
            self._say(f"{where}: {reason}; left out")

    def summary(self) -> str:
        """`25 malformed rows left out, the first 10 named above (data.max_bad_rows = 100)`."""
        named = f", the first {NAMED} named above" if self.count > NAMED else ""
        rows = "row" if self.count == 1 else "rows"
        return f"{self.count} malformed {rows} left out{named} (data.max_bad_rows = {self._budget})"
