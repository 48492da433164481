"""reasoning-gym's own scorers as a grader (`reasoning_gym` grading): right is a score of 1, partial credit is wrong.

A problem's metadata names its entry: `task`, `seed`, `size`, `options` and `index` make the dataset again.
"""

import copy
import json
from collections import OrderedDict
from functools import lru_cache
from typing import Any

from fipo.data.problem import Problem
from fipo.grading.answers.extract import marked_answer
from fipo.grading.answers.gym_guards import GUARDS, within_bounds
from fipo.grading.grade import Grade
from fipo.grading.grader import Grader

ENTRIES = 512  # kept: the responses to one problem come one after the other
UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class ReasoningGymGrader(Grader):
    """`prepare` makes a problem's entry, which may take seconds."""

    name = "reasoning_gym"
    extra = "gym"

    def __init__(self) -> None:
        self._entries: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def load(self) -> None:
        import reasoning_gym  # noqa: F401

    def readable(self, problem: Problem) -> str | None:
        made = "task" in problem.metadata
        return None if made else f'grader "reasoning_gym" needs source "reasoning_gym", got {problem.source}'

    def prepared(self, problem: Problem) -> bool:
        return _key(problem) in self._entries

    def prepare(self, problem: Problem) -> None:
        """Raises ValueError if reasoning-gym makes another question of the problem's metadata than it did."""
        dataset = _dataset(problem)
        if _reads_answer_alone(dataset, problem.metadata["task"]):
            entry = {"question": problem.text, "answer": problem.answer, "metadata": {}}
        else:
            entry = dataset[problem.metadata["index"]]
        if entry["question"] != problem.text:
            raise ValueError(f"reasoning_gym makes another question of {problem.metadata} than {problem.text!r:.80}")
        self._entries[_key(problem)] = entry
        if len(self._entries) > ENTRIES:
            self._entries.popitem(last=False)

    def grade(self, response: str, problem: Problem) -> Grade:
        """By the task's scorer, or by our guard where that one would execute or be taken in by the answer."""
        answer = marked_answer(response)
        answer = response.strip() if answer is None else answer
        if not answer:
            return Grade(outcome="no_answer", answer=None)
        if not self.prepared(problem):
            self.prepare(problem)
        return Grade(outcome="correct" if self._is_right(answer, problem) else "wrong", answer=answer)

    def _is_right(self, answer: str, problem: Problem) -> bool:
        entry = copy.deepcopy(self._entries[_key(problem)])  # some scorers write into it
        if not within_bounds(answer, entry):
            return False
        guard = GUARDS.get(problem.metadata["task"])
        verdict = guard(answer, entry) if guard else None
        if verdict is not None:
            return verdict
        try:
            return bool(_dataset(problem).score_answer(answer, entry) >= 1.0)
        except UNREADABLE:  # scorers differ in what they catch; an answer that cannot be read is not right
            return False


grade_reasoning_gym = ReasoningGymGrader()


def _key(problem: Problem) -> str:
    return json.dumps([problem.metadata, problem.text], sort_keys=True)


def _dataset(problem: Problem) -> Any:
    metadata = problem.metadata
    return _created(metadata["task"], metadata["size"], metadata["seed"], json.dumps(metadata["options"]))


@lru_cache(maxsize=4)
def _created(task: str, size: int, seed: int, options: str) -> Any:
    if task == "composite":
        raise ValueError("reasoning_gym: task 'composite' is not graded: its scorers would run unguarded")
    import reasoning_gym

    return reasoning_gym.create_dataset(task, size=size, seed=seed, **json.loads(options))


def _reads_answer_alone(dataset: Any, task: str) -> bool:
    """Whether the scorer needs no more of an entry than the problem has.

    Some of these cannot be made again: what they draw depends on the order of a set, which differs between
    processes (isomorphic_strings, ransom_note, polynomial_multiplication), or on what was drawn before
    (list_functions).
    """
    from reasoning_gym.dataset import ProceduralDataset

    own = type(dataset).score_answer is not ProceduralDataset.score_answer
    return not own or task == "polynomial_multiplication"
