"""A server that speaks OpenAI's protocol and answers problems: vLLM, SGLang, llama.cpp, `transformers serve`, ..."""

from collections.abc import Callable, Sequence
from typing import Any

from fipo.data.problem import Problem
from fipo.errors import RunStopped
from fipo.evaluation.answers import Answer, Asked, sample_seed
from fipo.evaluation.client import Client
from fipo.evaluation.config import EvalRecipe, Server
from fipo.evaluation.threads import in_parallel
from fipo.grading.workers.pool import GraderPool
from fipo.rollout.problems import usable_problems

SEEDS = 2**31  # the range that every server takes


class ServedModel:
    """An Answerer: one request for each sample, with a seed of its own, several at a time."""

    def __init__(self, recipe: EvalRecipe, table: Server) -> None:
        """Raises UserError if nothing answers at the server's address."""
        self.recipe = recipe
        self.table = table
        self.client = Client(table.url, timeout_seconds=table.timeout_seconds, retries=table.retries)
        self.client.check()
        self.identity = {"url": table.url.rstrip("/"), "model": table.model}
        self.chunk = 4 * table.concurrency

    def problems(self, graders: GraderPool, say: Callable[[str], None]) -> list[Problem]:
        """All of them: the server has the tokenizer, so none is too long as far as can be known here."""
        data, seed = self.recipe.data, self.recipe.sampling.seed
        return usable_problems(data.eval, "eval", data, graders=graders, seed=seed, limit=None, say=say)

    def prompt(self, problem: Problem) -> str | None:
        """What the server makes of it is not known here."""
        return None

    def answer(self, asked: Sequence[Asked], beat: Callable[[int], None]) -> list[Answer]:
        """Raises UserError if the server refuses a request, RunStopped if it does not answer any more."""
        return in_parallel(self._ask, asked, self.table.concurrency, lambda answer: beat(answer.tokens))

    def _ask(self, asked: Asked) -> Answer:
        sampling = self.recipe.sampling
        problem, seed = asked[0], sample_seed(sampling, asked) % SEEDS
        body: dict[str, Any] = {
            "model": self.table.model,
            "max_tokens": sampling.max_response_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed,
        }
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if sampling.stop:
            body["stop"] = sampling.stop
        data = self.recipe.data
        if data.prompt_format == "raw":
            return self._read(self.client.post("/completions", body | {"prompt": data.text(problem)}), seed)
        return self._read(self.client.post("/chat/completions", body | {"messages": data.messages(problem)}), seed)

    def _read(self, reply: Any, seed: int) -> Answer:
        try:
            choice = reply["choices"][0]
            text = choice["text"] if "text" in choice else choice["message"]["content"]
            tokens = reply["usage"]["completion_tokens"]
            truncated = choice["finish_reason"] == "length"
        except (KeyError, IndexError, TypeError):
            text, tokens, truncated = None, None, False
        if not isinstance(tokens, int) or not isinstance(text, str | None):
            raise RunStopped(
                f"{self.table.url}: a reply must have choices[0] with a text and a finish_reason, and "
                f"usage.completion_tokens, got {reply!r:.200}"
            )
        return Answer(text=text or "", tokens=tokens, truncated=truncated, seed=seed)
