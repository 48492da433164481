"""The day that chat templates see when they ask for today's."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from transformers.utils import chat_template_utils


@contextmanager
def today_is(day: str | None) -> Iterator[None]:
    """Inside, `strftime_now` of a template tells of `day`, as "2026-01-31", at midnight; None: of now.

    transformers takes no function from a caller of a template, so its module's own `datetime` is replaced.
    """
    if day is None:
        yield
        return
    then = datetime.fromisoformat(day)

    class Then(datetime):
        @classmethod
        def now(cls, _tz: Any = None) -> Any:
            return then

    module: Any = chat_template_utils
    before = module.datetime
    module.datetime = Then
    try:
        yield
    finally:
        module.datetime = before
