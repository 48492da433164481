"""How a bare question becomes a prompt: the `template` of a source."""

from dataclasses import replace
from typing import Literal

from fipo.data.problem import Problem
from fipo.errors import UserError

TemplateName = Literal["none", "dapo", "boxed"]
TEMPLATES: dict[TemplateName, tuple[str, str]] = {  # what stands before and after the question
    "none": ("", ""),
    "dapo": (  # as in DAPO-Math-17k; its `Answer:` line is what `dapo` grading reads
        "Solve the following math problem step by step. The last line of your response should be of the form "
        "Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n",
        '\n\nRemember to put your answer on its own line after "Answer:".',
    ),
    "boxed": ("", "\nPlease reason step by step, and put your final answer within \\boxed{}."),  # Qwen2.5-Math's
}


def in_template(problem: Problem, template: TemplateName, where: str) -> Problem:
    """The problem with its question in the template.

    Raises UserError if it has a prompt of its own: chat messages, or a question that is in a template already.
    """
    if template == "none":
        return problem
    if not isinstance(problem.prompt, str) or bare_question(problem.prompt) != problem.prompt.strip():
        raise UserError(
            f'{where}: template must be left out for data that has prompts of its own, got template = "{template}"'
        )
    before, after = TEMPLATES[template]
    return replace(problem, prompt=f"{before}{problem.prompt}{after}")


def bare_question(text: str) -> str:
    """The question alone, white space at its ends aside, of a text that may be in one of the templates."""
    text = text.strip()
    for before, after in TEMPLATES.values():
        before, after = before.lstrip(), after.rstrip()
        if text.startswith(before) and text.endswith(after):
            text = text.removeprefix(before).removesuffix(after).strip()
    return text
