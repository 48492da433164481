"""The problems of a source that a run can use: loaded, not too long, with an answer that the grader can read."""

from collections.abc import Callable

from transformers import PreTrainedTokenizerBase

from fipo.errors import UserError
from fipo.rollout.prompts import BadPrompt, Prompting, encode
from fipo.tasks.bad_rows import BadRows
from fipo.tasks.graders import grade_number
from fipo.tasks.problem import Problem
from fipo.tasks.sources import AnySource, Role, load_problems

MADE_FOR = {"countdown": "numbers", "reasoning_gym": "task"}  # graders, and what they read in a problem's metadata


def usable_problems(
    source: AnySource,
    role: Role,
    *,
    seed: int,
    tokenizer: PreTrainedTokenizerBase,
    prompting: Prompting,
    max_prompt_tokens: int,
    grader: str,
    max_bad_rows: int,
    say: Callable[[str], None],
) -> list[Problem]:
    """Each question once, in the order of the source. What is left out is said, with its place and the reason.

    Raises UserError for more than `max_bad_rows` malformed rows or long prompts, for a source that cannot be read,
    for one that the grader was not made for, and if no problem remains.
    """
    bad_rows = BadRows(max_bad_rows, say)
    loaded = load_problems(source, role, seed, bad_rows)
    if loaded.repeats:
        say(f"data.{role}: {_count(loaded.repeats, 'exact repeat')} merged")
    usable: list[Problem] = []
    for placed in loaded.problems:
        if grader in MADE_FOR and MADE_FOR[grader] not in placed.problem.metadata:
            raise UserError(f'data.{role}: grader "{grader}" needs source "{grader}", got {placed.where}')
        try:
            length = len(encode(placed.problem, tokenizer, prompting))
        except BadPrompt as error:
            bad_rows.leave_out(placed.where, str(error))
            continue
        if length > max_prompt_tokens:
            bad_rows.leave_out(
                placed.where,
                f"a prompt must have at most rollout.max_prompt_tokens = {max_prompt_tokens} tokens, got {length}",
            )
        elif grader == "number" and grade_number(placed.problem.answer, placed.problem).outcome == "no_answer":
            bad_rows.leave_out(
                placed.where, f'grader "number" needs a numeric answer, got {placed.problem.answer!r:.80}'
            )
        else:
            usable.append(placed.problem)
    if bad_rows.count:
        say(f"data.{role}: {bad_rows.summary()}")
    if not usable:
        raise UserError(f"data.{role}: at least one problem must remain, got none ({bad_rows.count} rows malformed)")
    return usable


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
