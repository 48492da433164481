"""Problems as the token lists that a sampler continues, and where a response ends."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import takewhile
from typing import Literal, cast

from jinja2 import TemplateError
from pydantic import Field
from transformers import PreTrainedTokenizerBase

from fipo.data.problem import Problem
from fipo.errors import UserError
from fipo.recipe.table import Table


class Example(Table):
    """A solved problem that stands before each question."""

    prompt: str
    response: str


class Prompting(Table):
    """The part of a recipe's [data] that says how a problem is put to the model."""

    prompt_format: Literal["raw", "chat"] = "raw"
    """"raw": the problem's text as it stands, for base models; "chat": the tokenizer's (or the server's) template."""
    examples: list[Example] = Field(default_factory=list)
    """Few-shot examples. raw: each one's prompt and response as they stand, and then the question, nothing added
    between them; chat: turns of user and assistant."""

    def text(self, problem: Problem) -> str:
        """What a raw prompt is."""
        return "".join(example.prompt + example.response for example in self.examples) + problem.text

    def messages(self, problem: Problem) -> list[dict[str, str]]:
        """The turns of a chat; examples follow the data's own system message."""
        prompt = problem.prompt
        own = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
        system = [message for message in own[:1] if message.get("role") == "system"]
        turns = [
            {"role": role, "content": content}
            for example in self.examples
            for role, content in (("user", example.prompt), ("assistant", example.response))
        ]
        return [*system, *turns, *own[len(system) :]]


class BadPrompt(UserError):
    """A prompt that a sampler cannot continue, whatever the others are."""


def encode(problem: Problem, tokenizer: PreTrainedTokenizerBase, prompting: Prompting) -> list[int]:
    """The prompt's tokens: the bare text, or the tokenizer's chat template with the assistant's turn opened.

    Raises BadPrompt for a prompt without tokens or that the template refuses, and UserError for "chat" with a
    tokenizer that has no template.
    """
    if prompting.prompt_format == "raw":
        tokens = list(tokenizer.encode(prompting.text(problem)))
    elif tokenizer.chat_template is None:
        raise UserError('data.prompt_format: "chat" needs a tokenizer with a chat template, this one has none')
    else:
        messages = prompting.messages(problem)
        try:
            encoded = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        except TemplateError as error:
            raise BadPrompt(f"the chat template refuses the prompt: {' '.join(str(error).split())}") from None
        tokens = cast(list[int], encoded)
    if not tokens:
        raise BadPrompt(f"a prompt must have at least one token, got none for {problem.text!r:.80}")
    return tokens


def common_head(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all of the prompts begin with."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False)))


def stopping_at(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, key: str) -> list[int]:
    """The tokens that end a response because one of `texts` is in them.

    Raises UserError, naming the recipe's `key`, for a text that is not a token: it could come in parts, unseen.
    """
    vocabulary = _vocabulary(tokenizer) if texts else []
    for text in texts:
        if text not in vocabulary:
            raise UserError(f"{key}: each must be a single token of the model, got {text!r}")
    return [token for token, content in enumerate(vocabulary) if any(text in content for text in texts)]


@lru_cache(maxsize=1)
def _vocabulary(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    return tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
