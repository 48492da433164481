"""The learning rate of each training step."""

import math
from typing import Literal

Schedule = Literal["constant", "linear", "cosine"]


def learning_rate(
    step: int, *, peak: float, warmup: int, schedule: Schedule = "constant", steps: int, floor: float
) -> float:
    """That of step `step`, from 1 to `steps`: up to `peak` over the first `warmup` steps, then along the schedule.

    constant   stays there
    linear     falls in a straight line to floor x peak, which the last step has
    cosine     falls to the same along half a cosine
    """
    rising = min(1.0, step / max(1, warmup))
    if schedule == "constant" or step <= warmup:
        return peak * rising
    passed = (step - warmup) / (steps - warmup)
    left = 1 - passed if schedule == "linear" else (1 + math.cos(math.pi * passed)) / 2
    return peak * (floor + (1 - floor) * left)
