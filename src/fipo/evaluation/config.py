"""The recipe of `fipo eval`: who answers, what is asked, how it is sampled and graded, where the results go."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from fipo.data.sources import EvalSources
from fipo.grading.table import GradingTable
from fipo.models.table import ModelTable
from fipo.recipe.table import AtOnce, InAllOrNone, PathText, Seed, Table, validate
from fipo.recipe.toml import read_recipe
from fipo.rollout.table import ProblemTable, SamplingTable

PRESETS: dict[str, dict[str, Any]] = {  # of [sampling]
    "paper": {"samples": 32, "temperature": 1.0, "top_p": 0.7}  # arXiv 2603.19835: avg@32, cons@32, pass@32
}


LABEL = r"[A-Za-z0-9_-]{1,63}"
ADDRESS = re.compile(rf"https?://(({LABEL}\.)*{LABEL}|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{{1,5}}))?(/[!-~]*)?")


def _address(url: str) -> str:
    found = ADDRESS.fullmatch(url)
    if found is None or not set("@?#").isdisjoint(url) or not 0 < int(found["port"] or 80) < 2**16:
        shown = re.sub("//.*@", "//***@", url)
        raise ValueError(f"must be http:// or https://, a host, and if need be a port and a path, got {shown!r:.80}")
    return url


def _not_nearly_greedy(temperature: float) -> float:
    if 0 < temperature < 1e-3:
        raise ValueError(f"must be 0 or at least 0.001, got {temperature!r}")
    return temperature


class Model(ModelTable):
    """A model that answers in this process. Its path may be a run directory, too: the newest checkpoint of it."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it answers; auto = CUDA where there is some."""
    decode_batch: AtOnce = 256
    """Most sequences decoded together: memory against speed."""


class Server(Table):
    """A server that speaks OpenAI's protocol. Its key, if it wants one, is the environment's OPENAI_API_KEY."""

    url: Annotated[str, AfterValidator(_address)]
    """Up to and with the version, as `http://127.0.0.1:8000/v1`."""
    model: str
    """The name that the server gives the model."""
    concurrency: Annotated[int, Field(gt=0, le=1024)] = 16
    """Requests that wait for an answer at one time."""
    timeout_seconds: Annotated[float, Field(gt=0, le=1e6)] = 600.0
    """For one whole response, from the request to the last byte."""
    retries: Annotated[int, Field(ge=0, le=100)] = 5
    """Further attempts after a timeout, a lost connection, or the status 429 or 5xx; pauses double from a second."""


class Data(ProblemTable):
    eval: EvalSources
    """As in a recipe for training: one source, or several by name."""


class Sampling(SamplingTable):
    preset: Literal["paper"] | None = None
    """Values for the keys that are not given beside it: paper = 32 samples at temperature 1.0 and top-p 0.7."""
    samples: AtOnce
    """Responses per problem, n."""
    temperature: Annotated[float, Field(ge=0, le=1e3), AfterValidator(_not_nearly_greedy)] = 1.0
    """0 = greedy."""
    top_k: InAllOrNone = 0
    """Sample from this many of the likeliest tokens; 0 = all, and nothing about it is sent to a server."""
    max_prompt_tokens: AtOnce | None = None
    """For a model in this process; a longer prompt counts as a bad row. Left out = what fits the model's positions."""
    max_response_tokens: AtOnce
    """A longer response is cut off there, and counts as truncated."""
    stop: list[str] = Field(default_factory=list)
    """As in a recipe for training's [rollout]; a server takes any texts."""
    seed: Seed = 0
    """The seed of the random numbers of every response."""

    @model_validator(mode="before")
    @classmethod
    def _on_top_of_preset(cls, values: Any) -> Any:
        preset = values.get("preset") if isinstance(values, dict) else None
        return {**PRESETS[preset], **values} if isinstance(preset, str) and preset in PRESETS else values


class Output(Table):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    """The results are in `folder/name`."""
    folder: PathText = "runs/eval"
    """Where the results of all evaluations are."""

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
