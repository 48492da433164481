"""What is never computed: numbers of too many digits, and too much work."""

MOST_BITS = 34_000  # of a number: 10,000 digits
MOST_TERMS = 2_000  # of a sum or product
MOST_STEPS = 12_000  # of some ten microseconds each


class TooLarge(Exception):
    """More digits, or more work, than is done for an answer."""


class Undefined(Exception):
    """It has no value: a division by zero, an unknown, an infinite sum."""


class Budget:
    """The work that one verdict may cost."""

    def __init__(self) -> None:
        self.left = MOST_STEPS

    @property
    def used_up(self) -> bool:
        return self.left < 0

    def spend(self, steps: int) -> None:
        """Raises TooLarge where it is used up."""
        self.left -= steps
        if self.left < 0:
            raise TooLarge
