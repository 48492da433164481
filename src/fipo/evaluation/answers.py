"""What answers problems: a model in this process or a server. The rest of an evaluation knows this protocol alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fipo.data.problem import Problem
from fipo.evaluation.config import Sampling
from fipo.grading.workers.pool import GraderPool
from fipo.seeding import derive_seed


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One response to a problem."""

    text: str  # what it says
    tokens: int  # its length, stop token included
    truncated: bool  # max_response_tokens came before a stop token
    seed: int  # of its random numbers


Asked = tuple[Problem, int]  # and the number of the sample, from 0


class Answerer(Protocol):
    identity: dict[str, str]  # what the results are results of: another one has other results
    chunk: int  # samples that are best asked together

    def answer(self, asked: Sequence[Asked], beat: Callable[[int], None]) -> list[Answer]:
        """An answer for each, in order; `beat` is told of tokens as they come."""
        ...

    def prompt(self, problem: Problem) -> str | None:
        """The text that is answered, as far as it is not the recipe's and the problem's alone."""
        ...

    def problems(self, graders: GraderPool, say: Callable[[str], None]) -> dict[str, list[Problem]]:
        """The problems of each source of the recipe that it can be asked, by its key.

        Raises UserError if there is none, or they are malformed.
        """
        ...


def sample_seed(sampling: Sampling, asked: Asked) -> int:
    """A function of the problem's id, not of its place, and of the sample's number: whatever else is asked.

    See `fipo.rollout.sampler.uniforms_of`.
    """
    problem, number = asked
    return derive_seed(derive_seed(sampling.seed, "eval", problem.id), "noise", number)


def identity_text(identity: dict[str, Any]) -> str:
    """`model embedded (sha256 0123456789ab, float32)` or `qwen at http://127.0.0.1:8000/v1`."""
    if "sha256" in identity:
        return f"{identity['path']} (sha256 {identity['sha256'][:12]}, {identity['dtype']})"
    return f"{identity['model']} at {identity['url']}"
