"""The tables of a recipe that say what is asked and how it is sampled: `[data]`'s common part and `[rollout]`."""

from typing import Annotated, Literal

from pydantic import Field

from fipo.grading.registry import GraderName
from fipo.recipe.table import AtOnce, InAllOrNone, Table
from fipo.rollout.prompts import Prompting
from fipo.rollout.sampler import SamplingParams

Fraction = Annotated[float, Field(gt=0, le=1)]
Temperature = Annotated[float, Field(ge=1e-3, le=1e3)]  # a lower one is greedy but for overflows, a higher one uniform


class ProblemTable(Prompting):
    """How problems are put to a model, and who grades the answers."""

    grader: GraderName
    """Who decides whether a response is right: the name of one of ours (docs/data.md), or `module:function` for your
    own."""
    max_bad_rows: InAllOrNone = 0
    """Malformed rows and too long prompts that are left out of each source, each of them named; one more ends the
    run before it begins."""


class SamplingTable(Table):
    """How a token is drawn."""

    temperature: Temperature = 1.0
    """Divides the logits before a token is drawn; 1 = the model's own distribution, which training assumes."""
    top_p: Fraction = 1.0
    """Draw from the likeliest tokens that together have this probability; 1 = from all."""
    top_k: InAllOrNone = 0
    """Sample from this many of the likeliest tokens; 0 = all. The policy's log-probs are over all of them."""

    def params(self, max_tokens: int) -> SamplingParams:
        """What a sampler takes, for responses of at most `max_tokens`."""
        return SamplingParams(temperature=self.temperature, top_p=self.top_p, top_k=self.top_k, max_tokens=max_tokens)


class RolloutTable(SamplingTable):
    groups: AtOnce
    """Groups (problems) that one training step learns from."""
    group_size: Annotated[int, Field(ge=2, le=10**6)]
    """Responses per problem, G."""
    generation_batch: AtOnce
    """Problems per generation batch: more than `groups`, since groups without contrast are dropped."""
    max_generation_batches: AtOnce = 10
    """Generation batches that one step may take to reach `groups`."""
    on_short_batch: Literal["train", "stop"] = "train"
    """When the generation batches run out before `groups` is reached: train on what there is, or end the run."""
    max_prompt_tokens: AtOnce
    """A longer one counts as a bad row; see `data.max_bad_rows`."""
    max_response_tokens: AtOnce
    """A longer response is cut off there, and counts as truncated."""
    stop: list[str] = Field(default_factory=list)
    """A response ends with the first token that contains one of these, beside the model's own stop tokens. Each must be
    a single token, such as "\\n"."""
    decode_batch: AtOnce = 256
    """Sequences decoded together: memory against speed; it changes log-probs by rounding alone."""

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence, prompt and response."""
        return self.max_prompt_tokens + self.max_response_tokens
