"""The recipe of `fipo eval`: who answers, what is asked, how it is sampled and graded, where the results go."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from fipo.data.sources import Source
from fipo.grading.table import GradingTable
from fipo.models.table import ModelTable
from fipo.recipe.table import Table, validate
from fipo.recipe.toml import read_recipe
from fipo.rollout.table import ProblemTable, SamplingTable

PRESETS: dict[str, dict[str, Any]] = {  # of [sampling]
    "paper": {"samples": 32, "temperature": 1.0, "top_p": 0.7}  # arXiv 2603.19835: avg@32, cons@32, pass@32
}


class Model(ModelTable):
    """A model that answers in this process. Its path may be a run directory, too: the newest checkpoint of it."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    decode_batch: PositiveInt = 256
    """Most sequences decoded together: memory against speed."""


class Server(Table):
    """A server that speaks OpenAI's protocol. Its key, if it wants one, is the environment's OPENAI_API_KEY."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s@?#]+$")]
    """Up to and with the version, as `http://127.0.0.1:8000/v1`."""
    model: str
    """The name that the server gives the model."""
    concurrency: PositiveInt = 16
    """Requests that wait for an answer at one time."""
    timeout_seconds: Annotated[float, Field(gt=0, le=1e6)] = 600.0
    """For one response."""
    retries: NonNegativeInt = 5
    """Further attempts after a timeout, a lost connection, or the status 429 or 5xx; pauses double from a second."""


class Data(ProblemTable):
    eval: Source
    """As in a recipe for training."""


class Sampling(SamplingTable):
    preset: Literal["paper"] | None = None
    """Values for the keys that are not given beside it: paper = 32 samples at temperature 1.0 and top-p 0.7."""
    samples: PositiveInt
    """Responses per problem, n."""
    temperature: NonNegativeFloat = 1.0
    """0 = greedy."""
    top_k: NonNegativeInt = 0
    """Sample from this many of the likeliest tokens; 0 = all, and nothing about it is sent to a server."""
    max_prompt_tokens: PositiveInt | None = None
    """For a model in this process; a longer prompt counts as a bad row. Left out = what fits the model's positions."""
    max_response_tokens: PositiveInt
    stop: list[str] = Field(default_factory=list)
    """As in a recipe for training's [rollout]; a server takes any texts."""
    seed: NonNegativeInt = 0

    @model_validator(mode="before")
    @classmethod
    def _on_top_of_preset(cls, values: Any) -> Any:
        preset = values.get("preset") if isinstance(values, dict) else None
        return {**PRESETS[preset], **values} if isinstance(preset, str) and preset in PRESETS else values


class Output(Table):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    """The results are in `folder/name`."""
    folder: Annotated[str, Field(pattern=r"^[^\x00]+$")] = "runs/eval"

    @property
    def path(self) -> Path:
        return Path(self.folder) / self.name


class EvalRecipe(Table):
    model: Model | None = None
    server: Server | None = None
    data: Data
    sampling: Sampling
    grading: GradingTable = GradingTable()
    output: Output

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        if (self.model is None) == (self.server is None):
            got = "neither" if self.model is None else "both"
            raise ValueError(f"exactly one of the tables [model] and [server] must be given, got {got}")
        if self.server is not None and self.sampling.max_prompt_tokens is not None:
            raise ValueError("sampling.max_prompt_tokens is for [model]: how a server counts tokens is not known here")
        if self.server is not None and self.data.date is not None:
            raise ValueError("data.date is for [model]: a server's chat template has the server's day")
        return self


def load_eval_recipe(path: Path, overrides: dict[str, str]) -> EvalRecipe:
    """The recipe at `path`, on top of the one it `extends`, with overrides such as `{"sampling.samples": "8"}` on top.

    Raises UserError with one line that names the file, the key, the rule and the value.
    """
    return validate(EvalRecipe, read_recipe(path, overrides), str(path))
