"""What a run says once of itself, in the log `fipo`, where it is legal and may not do what its reader thinks."""

import logging
from collections.abc import Sequence

log = logging.getLogger("fipo")

IDLE_STD = 0.01  # weights within 1% of 1 move no update by more than the seed does
FULL_RATE = 0.9  # of learning_rate: before, it is warming up


class SaidOnce:
    """Remembers what was said. speaks: whether this process does, of several that know the same."""

    def __init__(self, *, speaks: bool) -> None:
        self._speaks = speaks
        self._said: set[str] = set()

    def weights(self, std: float, *, mini_batches: int, learning_rate: float, of: float) -> None:
        """After the last mini-batch of a generation. std: of its weights f; of: the rate of the config."""
        if std < IDLE_STD and learning_rate >= FULL_RATE * of:
            self._say(
                "weights",
                f"learning_rate {learning_rate:g}: in the last of {mini_batches} mini-batches the weights f are 1 up "
                f"to {std:.1g} (standard deviation), so this run is DAPO; a larger learning_rate or more mini_batches "
                "move them",
            )

    def accuracies(self, values: Sequence[float], reward: str) -> None:
        """What the reward function that dynamic sampling judges by gave for a generation batch, NaN left out."""
        found = len(set(values))
        if found > 2:
            self._say(
                "accuracies",
                f"dynamic_sampling judges by the reward function {reward}, which gave {found} different values: a "
                "group that is all wrong or all right counts as mixed then; accuracy_reward names another",
            )

    def _say(self, what: str, text: str) -> None:
        if self._speaks and what not in self._said:
            log.warning(text)
        self._said.add(what)
