"""Problems as the token lists that a sampler continues."""

from typing import Literal, cast

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from fipo.errors import UserError
from fipo.tasks.problem import Problem

PromptFormat = Literal["raw", "chat"]


class BadPrompt(UserError):
    """A prompt that a sampler cannot continue, whatever the others are."""


def encode(problem: Problem, tokenizer: PreTrainedTokenizerBase, prompt_format: PromptFormat) -> list[int]:
    """The prompt's tokens: the bare text, or the tokenizer's chat template with the assistant's turn opened.

    Raises BadPrompt for a prompt without tokens or that the template refuses, and UserError for "chat" with a
    tokenizer that has no template.
    """
    if prompt_format == "raw":
        tokens = list(tokenizer.encode(problem.text))
    elif tokenizer.chat_template is None:
        raise UserError('data.prompt_format: "chat" needs a tokenizer with a chat template, this one has none')
    else:
        prompt = problem.prompt
        messages = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
        try:
            encoded = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        except TemplateError as error:
            raise BadPrompt(f"the chat template refuses the prompt: {' '.join(str(error).split())}") from None
        tokens = cast(list[int], encoded)
    if not tokens:
        raise BadPrompt(f"a prompt must have at least one token, got none for {problem.text!r:.80}")
    return tokens
