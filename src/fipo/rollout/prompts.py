"""Problems as the token lists that a sampler continues, and where a response ends."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from functools import lru_cache
from itertools import takewhile
from typing import Annotated, Any, Literal, TypeVar

from jinja2 import TemplateError, TemplateSyntaxError
from pydantic import AfterValidator, Field
from transformers import PreTrainedTokenizerBase

from fipo.data.problem import Problem
from fipo.errors import UserError
from fipo.recipe.table import Table
from fipo.rollout.deadline import MOST_MEMORY, within
from fipo.rollout.sandbox import bounded_templates
from fipo.rollout.today import today_is

TEMPLATE_SECONDS = 20


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError('must be a date such as "2026-01-31"') from None


class Example(Table):
    """A solved problem that stands before each question."""

    prompt: str
    """The question."""
    response: str
    """What the model should have answered, with whatever ends it."""


class Prompting(Table):
    """The part of a recipe's [data] that says how a problem is put to the model."""

    prompt_format: Literal["raw", "chat"] = "raw"
    """"raw": the problem's text as it stands, for base models; "chat": the tokenizer's (or the server's) template."""
    examples: list[Example] = Field(default_factory=list)
    """Few-shot examples. raw: each one's prompt and response as they stand, and then the question, nothing added
    between them; chat: turns of user and assistant."""
    date: Annotated[str, AfterValidator(_day)] | None = None
    """Today, as "2026-01-31", for chat templates that ask. Left out = the day on which the run began."""

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


DatedPrompting = TypeVar("DatedPrompting", bound=Prompting)


def on_its_day(prompting: DatedPrompting, begun: Any) -> DatedPrompting:
    """The same with its date: the recipe's own, that in the [data] of what was `begun` and now goes on, or today's.

    begun: a table as a file has it, or what stands in its place; None if this is the beginning.
    """
    if prompting.prompt_format == "raw" or prompting.date is not None:
        return prompting
    if begun is None:
        return prompting.model_copy(update={"date": date.today().isoformat()})
    day = begun.get("date") if isinstance(begun, dict) else None
    return prompting.model_copy(update={"date": day})


class BadPrompt(UserError):
    """A prompt that a sampler cannot continue, whatever the others are."""


def encode(problem: Problem, tokenizer: PreTrainedTokenizerBase, prompting: Prompting) -> list[int]:
    """The prompt's tokens: the bare text, or the tokenizer's chat template with the assistant's turn opened.

    What the tokenizer puts before a bare text stays (BOS, once); nothing stands behind it, for nobody continues EOS.
    Raises BadPrompt for a prompt without tokens or that the template refuses or cuts, and UserError for "chat" with a
    tokenizer that has no template.
    """
    text = rendered(problem, tokenizer, prompting)
    if prompting.prompt_format == "chat":
        tokens: list[int] = _from_template(tokenizer, prompting.messages(problem), prompting, tokenize=True)
    else:
        bare = list(tokenizer.encode(text, add_special_tokens=False))
        tokens = _with_what_stands_before(bare, list(tokenizer.encode(text)), tokenizer)
    if not tokens:
        raise BadPrompt(f"a prompt must have at least one token, got none for {problem.text!r:.80}")
    return tokens


def rendered(problem: Problem, tokenizer: PreTrainedTokenizerBase, prompting: Prompting) -> str:
    """The prompt as text. Raises as `encode`."""
    if prompting.prompt_format == "raw":
        return prompting.text(problem)
    template = tokenizer.chat_template
    if template is None:
        raise UserError('data.prompt_format: "chat" needs a tokenizer with a chat template, this one has none')
    if isinstance(template, dict) and "default" not in template:
        names = ", ".join(sorted(template))
        raise UserError(f'data.prompt_format: "chat" needs a chat template named "default", this tokenizer has {names}')
    messages = prompting.messages(problem)
    text: str = _from_template(tokenizer, messages, prompting)
    marks = [{**message, "content": f"fipo{i}mark"} for i, message in enumerate(messages)]
    marked = _from_template(tokenizer, marks, prompting)  # a short question may stand in the template by chance
    for message, mark in zip(messages, marks, strict=True) if text else ():
        changed = message["role"] != "system" and _squeezed(message["content"]) not in _squeezed(text)
        if changed or mark["content"] not in marked:  # of a system message, a template may take its own switches out
            raise BadPrompt(f"the chat template leaves out what {message['role']} says: {message['content']!r:.80}")
    return text


def _from_template(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], prompting: Prompting, *, tokenize: bool = False
) -> Any:
    """The text, or its tokens."""

    def fill_in() -> Any:
        with today_is(prompting.date), bounded_templates():
            return tokenizer.apply_chat_template(
                messages, tokenize=tokenize, add_generation_prompt=True, return_dict=False
            )

    try:
        return within(TEMPLATE_SECONDS, fill_in)
    except TimeoutError:
        limits = f"{TEMPLATE_SECONDS} s and {MOST_MEMORY >> 20} MiB"
        raise UserError(f"the chat template must be filled in within {limits}: it does not end") from None
    except MemoryError:
        raise UserError("the chat template must be filled in with little memory: it ran out") from None
    except TemplateSyntaxError as error:
        raise UserError(f"the chat template cannot be read: line {error.lineno}: {_one_line(error)}") from None
    except TemplateError as error:
        raise BadPrompt(f"the chat template refuses the prompt: {_one_line(error)}") from None
    except Exception as error:  # a template is a program
        raise BadPrompt(f"the chat template fails: {type(error).__name__}: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return f"{' '.join(str(error).split()):.200}"


def _squeezed(text: str) -> str:
    """Without white space, which templates trim."""
    return "".join(text.split())


def _with_what_stands_before(bare: list[int], whole: list[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """A text's tokens with the special ones that its tokenizer puts in front, unless BOS is written there already."""
    for end in range(len(whole), len(bare) - 1, -1) if bare else ():
        if whole[end - len(bare) : end] == bare:
            return bare if bare[0] == tokenizer.bos_token_id else whole[:end]
    while len(whole) > 1 and whole[-1] in (tokenizer.eos_token_id, tokenizer.sep_token_id):
        whole = whole[:-1]
    return whole


def as_asked(problem: Problem, prompting: Prompting) -> Problem:
    """The problem as its grader sees it: in a chat the prompt is messages, by which a reward function of TRL's goes."""
    if prompting.prompt_format == "raw" or not isinstance(problem.prompt, str):
        return problem
    return replace(problem, prompt=[{"role": "user", "content": problem.prompt}])


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
