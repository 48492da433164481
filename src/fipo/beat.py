"""Signs of life: what long work calls after each piece of it, so that a watch knows that it goes on."""

from typing import Protocol


class Beat(Protocol):
    """What is called after every piece of work: a sign of life, and if it is known how much of the phase is `done`."""

    def __call__(self, done: int = 0, total: int = 0) -> None: ...


def no_beat(done: int = 0, total: int = 0) -> None:
    """Where nobody listens."""
