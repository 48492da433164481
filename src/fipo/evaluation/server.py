"""A server that speaks OpenAI's protocol and answers problems: vLLM, SGLang, llama.cpp, `transformers serve`, ..."""

from collections.abc import Callable, Sequence
from typing import Any

from fipo.data.problem import Problem
from fipo.data.sources import sources_of
from fipo.evaluation.answers import Answer, Asked, sample_seed
from fipo.evaluation.client import Client
from fipo.evaluation.config import EvalRecipe, Server
from fipo.evaluation.threads import in_parallel
from fipo.grading.workers.pool import GraderPool
from fipo.rollout.problems import problem_sets

SEEDS = 2**31  # the range that every server takes
BYTES_PER_TOKEN = 256  # at most, of a whole reply in JSON
MOST_TOKENS = 10**9  # that a reply can say it has


class ServedModel:
    """An Answerer: one request for each sample, with a seed of its own, several at a time."""

    def __init__(self, recipe: EvalRecipe, table: Server) -> None:
        """Raises UserError if nothing answers at the server's address."""
        self.recipe = recipe
        self.table = table
        self.client = Client(
            table.url,
            timeout_seconds=table.timeout_seconds,
            retries=table.retries,
            longest_reply=2**20 + BYTES_PER_TOKEN * recipe.sampling.max_response_tokens,
        )
        self.client.check()
        self.identity = {"url": table.url.rstrip("/"), "model": table.model}
        self.chunk = 4 * table.concurrency

    def problems(self, graders: GraderPool, say: Callable[[str], None]) -> dict[str, list[Problem]]:
        """All of them: the server has the tokenizer, so none is too long as far as can be known here."""
        data, seed = self.recipe.data, self.recipe.sampling.seed
        return problem_sets(
            sources_of(data.eval, "data.eval"), "eval", data, graders=graders, seed=seed, limit=None, say=say
        )

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
        raw = data.prompt_format == "raw"
        body |= {"prompt": data.text(problem)} if raw else {"messages": data.messages(problem)}
        path = "/completions" if raw else "/chat/completions"
        return self.client.post(path, body, lambda reply: self._read(reply, seed))

    def _read(self, reply: Any, seed: int) -> Answer:
        """Raises ValueError, with the rule, for a reply that is none."""
        try:
            choice = reply["choices"][0]
            text = choice["text"] if "text" in choice else choice["message"]["content"]
            tokens, ended = reply["usage"]["completion_tokens"], choice["finish_reason"]
        except (KeyError, IndexError, TypeError):
            text, tokens, ended = None, None, None
        counted = isinstance(tokens, int) and not isinstance(tokens, bool) and 0 <= tokens <= MOST_TOKENS
        if not counted or not isinstance(text, str | None) or not isinstance(ended, str | None):
            raise ValueError(
                "a reply must have choices[0] with a text and a finish_reason, and usage.completion_tokens from 0 "
                f"to {MOST_TOKENS}"
            )
        return Answer(text=self.client.redacted(text or ""), tokens=tokens, truncated=ended == "length", seed=seed)
