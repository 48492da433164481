"""Problems as the token lists that a sampler continues."""

from typing import Literal, cast

from transformers import PreTrainedTokenizerBase

from fipo.tasks.problem import Problem

PromptFormat = Literal["raw", "chat"]


def encode(problem: Problem, tokenizer: PreTrainedTokenizerBase, prompt_format: PromptFormat) -> list[int]:
    """The prompt's tokens: the bare text, or the tokenizer's chat template with the assistant's turn opened."""
    if prompt_format == "raw":
        return list(tokenizer.encode(problem.text))
    messages = problem.prompt if isinstance(problem.prompt, list) else [{"role": "user", "content": problem.prompt}]
    return cast(list[int], tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))
