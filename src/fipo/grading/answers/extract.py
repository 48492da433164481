"""Where in a response the answer stands, for graders that take a text of any form."""

import re

LABEL = re.compile(r"answer[ \t]{0,8}:", re.IGNORECASE)
OPEN, CLOSE = "<answer>", "</answer>"


def tagged_answer(response: str) -> str | None:
    """What stands in the last `<answer>` tag that is closed; None without one."""
    end = response.rfind(CLOSE)
    start = response.rfind(OPEN, 0, max(end, 0))
    return response[start + len(OPEN) : end].strip() if start >= 0 else None


def marked_answer(response: str) -> str | None:
    """What stands in the last `<answer>` tag or, without one, after the last `Answer:`; None without either."""
    tagged = tagged_answer(response)
    if tagged is not None:
        return tagged
    label = None
    for label in LABEL.finditer(response):  # noqa: B007  # the last one
        pass
    return response[label.end() :].strip() if label else None
