"""The reward of my_recipe.toml, which names it: data.grader = "my_reward:reward"."""

import re
from typing import Any


def reward(response: str, problem: Any) -> bool:
    """Is the response right? True or False.

    Called once for every response, in another process, which is killed if it takes longer than
    grading.deadline_seconds. What it raises is reported and counts as a failed grade, not as wrong.

    response: what the model wrote, without the token that ended it.
    problem: a row of the data: problem.prompt and problem.answer are its texts.
    """
    numbers = re.findall(r"-?\d+", response)  # the model works step by step: the last number is its answer
    return bool(numbers) and int(numbers[-1]) == int(problem.answer)
