"""What a grader is: an object that knows its name, what it needs, what it reads, and which answers are the same."""

from fipo.data.problem import Problem
from fipo.grading.answers.extract import after_thoughts
from fipo.grading.grade import Grade


class Grader:
    """One rule of right and wrong. All of its methods run in worker processes, each call within a deadline.

    A subclass has to have `grade`; the rest says more of it where there is more to say.

    >>> class Parity(Grader):
    ...     name = "parity"
    ...     def grade(self, response, problem):
    ...         right = response.strip().isdigit() and int(response) % 2 == int(problem.answer) % 2
    ...         return Grade(outcome="correct" if right else "wrong", answer=response.strip())
    >>> even = Problem(id="1", prompt="An even number:", answer="2", source="mine")
    >>> Parity()("<think>no idea</think> 14", even).correct
    True
    """

    name: str
    extra: str | None = None  # of fipo, the one that brings what `load` imports
    reads_boxes: bool = True  # it finds an answer that stands in \boxed{}
    reads_thoughts: bool = False  # `grade` is given what stands before the last </think>, too

    def load(self) -> None:
        """Import what takes time to import. Raises ImportError if it is not installed."""

    def readable(self, problem: Problem) -> str | None:
        """Why no response to this problem can be graded, in one line; None if they can."""
        return None

    def prepared(self, problem: Problem) -> bool:
        """Whether `grade` can begin with this problem at once."""
        return True

    def prepare(self, problem: Problem) -> None:
        """Make what `grade` needs of a problem; this may take a while, and is on no answer's time."""

    def grade(self, response: str, problem: Problem) -> Grade:
        """Whether the response to a readable problem is right. Raises ValueError, say, where it cannot decide."""
        raise NotImplementedError

    def same(self, a: str, b: str) -> bool:
        """Whether two answers, as `Grade.answer` holds them, are the same one: they vote together."""
        return a == b

    def __call__(self, response: str, problem: Problem) -> Grade:
        """As `grade`, of what follows the thoughts: a response that ends in them has no answer.

        Raises ValueError for a problem that is not readable.
        """
        reason = self.readable(problem)
        if reason is not None:
            raise ValueError(reason)
        said = response if self.reads_thoughts else after_thoughts(response)
        return Grade(outcome="no_answer", answer=None) if said is None else self.grade(said, problem)
