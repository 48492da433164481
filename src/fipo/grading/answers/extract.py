"""Where in a response the answer stands, for graders that take a text of any form."""

import re

THOUGHTS = r"(?:seed:)?(?:think|thinking|thought|thoughts|reasoning|reflection)"
OPENED = re.compile(
    rf"<\s?{THOUGHTS}\s?>|\[THINK\]|\u25c1think\u25b7|<\|begin_of_thought\|>|<\|channel\|>(?:analysis|commentary)",
    re.IGNORECASE,
)
CLOSED = re.compile(
    rf"</\s?{THOUGHTS}\s?>|\[/THINK\]|\u25c1/think\u25b7|<\|end_of_thought\|>|<\|channel\|>final[^<]{{0,40}}<\|message\|>",
    re.IGNORECASE,
)
LABEL = re.compile(r"answer[ \t]{0,8}:", re.IGNORECASE)
OPEN, CLOSE = "<answer>", "</answer>"


def after_thoughts(response: str) -> str | None:
    """What follows the last `</think>`, or all if there were no thoughts; None if the response ends in them."""
    closed = None
    for closed in CLOSED.finditer(response):  # noqa: B007  # the last one
        pass
    rest = response[closed.end() :] if closed else response
    return None if OPENED.search(rest) else rest


def tagged_answer(response: str) -> str | None:
    """What stands in the last `<answer>` tag that is closed; None without one."""
    end = response.rfind(CLOSE)
    start = response.rfind(OPEN, 0, max(end, 0))
    return response[start + len(OPEN) : end].partition(CLOSE)[0].strip() if start >= 0 else None


def marked_answer(response: str) -> str | None:
    """What stands in the last `<answer>` tag or, without one, after the last `Answer:`; None without either."""
    tagged = tagged_answer(response)
    if tagged is not None:
        return tagged
    label = None
    for label in LABEL.finditer(response):  # noqa: B007  # the last one
        pass
    return response[label.end() :].strip() if label else None
