"""Dynamic loss scaling, for gradients that pass through float16 (1710.03740)."""

import math

FIRST = 2.0**16
SMALLEST = 1.0  # a mean loss that overflows at this scale is no matter of scaling
INTERVAL = 2000  # finite updates before the scale is doubled


class LossScale:
    """The factor of a mini-batch's mean loss before its backward pass: always a power of two.

    Halved when a gradient overflows, doubled after INTERVAL finite ones. The loss of a pack is a sum, so it is
    multiplied by less; nothing but the range of float16 depends on by how much.
    """

    def __init__(self, value: float = FIRST, clean: int = 0) -> None:
        self.value = value
        self.clean = clean  # finite gradients since the last change

    def multiplier(self, weight: int) -> float:
        """The factor of a summed loss that will be divided by about `weight`, not known before the backward pass."""
        return self.value / 2.0 ** math.ceil(math.log2(max(1, weight)))

    def note(self, *, finite: bool) -> bool:
        """Take the outcome of a backward pass in; whether a smaller scale may help the next one."""
        if finite:
            self.clean += 1
            if self.clean == INTERVAL:
                self.value, self.clean = 2 * self.value, 0
            return False
        helps = self.value > SMALLEST
        self.value, self.clean = max(SMALLEST, self.value / 2), 0
        return helps
