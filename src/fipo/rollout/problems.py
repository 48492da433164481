"""The problems of a source that a run can use: loaded, not too long, and such that the grader can grade them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from fipo.data.bad_rows import BadRows
from fipo.data.problem import Placed, Problem
from fipo.data.repeats import without
from fipo.data.sources import AnySource, Role, load_problems
from fipo.errors import UserError
from fipo.grading.panel import Graders
from fipo.rollout.prompts import BadPrompt, Prompting, encode
from fipo.rollout.table import ProblemTable


@dataclass(frozen=True, kw_only=True)
class PromptLimit:
    """How long a prompt may be, in the tokens of the model that reads it."""

    tokenizer: PreTrainedTokenizerBase
    prompting: Prompting
    max_tokens: int | None  # None = any number
    rows: int  # tokens that the model knows
    key: str = "rollout.max_prompt_tokens"  # of the recipe, for what is said

    def check(self, problem: Problem) -> None:
        """Raises BadPrompt for a prompt that is too long, that cannot be encoded or that the model cannot read."""
        tokens = encode(problem, self.tokenizer, self.prompting)
        length = len(tokens)
        if max(tokens) >= self.rows:
            raise BadPrompt(f"a prompt must have tokens below {self.rows}, the rows of the model, got {max(tokens)}")
        if self.max_tokens is not None and length > self.max_tokens:
            raise BadPrompt(f"a prompt must have at most {self.key} = {self.max_tokens} tokens, got {length}")


def usable_problems(
    source: AnySource,
    role: Role,
    table: ProblemTable,
    *,
    graders: Graders,
    seed: int,
    limit: PromptLimit | None,
    say: Callable[[str], None],
    key: str | None = None,
) -> list[Problem]:
    """Each question once, in the order of the source. What is left out is said, with its place and the reason.

    `key`: of the source in the recipe, `data.train` if there is but one. `limit` None: prompts of any length. Raises
    UserError for more than `table.max_bad_rows` malformed rows or long prompts, for a source that cannot be read, and
    if no problem remains.
    """
    key = key or f"data.{role}"
    bad_rows = BadRows(table.max_bad_rows, say)
    usable: list[Problem] = []
    for placed in gradable_problems(source, role, graders, seed=seed, bad_rows=bad_rows, say=say, key=key):
        try:
            if limit is not None:
                limit.check(placed.problem)
        except BadPrompt as error:
            bad_rows.leave_out(placed.where, str(error))
        else:
            usable.append(placed.problem)
    account_for(usable, key, bad_rows, say)
    return usable


def problem_sets(
    sources: Mapping[str, AnySource],
    role: Role,
    table: ProblemTable,
    *,
    graders: Graders,
    seed: int,
    limit: PromptLimit | None,
    say: Callable[[str], None],
) -> dict[str, list[Problem]]:
    """`usable_problems` of each of the sources, by its key in the recipe."""
    return {
        key: usable_problems(source, role, table, graders=graders, seed=seed, limit=limit, say=say, key=key)
        for key, source in sources.items()
    }


def training_sets(
    sets: Mapping[str, list[Problem]], held_out: Sequence[Problem], say: Callable[[str], None]
) -> dict[str, list[Problem]]:
    """Those to train on: no question of `held_out`, and none that an earlier set has; what goes is counted.

    Raises UserError if no problem of a set remains.
    """
    kept: dict[str, list[Problem]] = {}
    for key, problems in sets.items():
        new = without(problems, [problem for earlier in kept.values() for problem in earlier])
        if len(new) < len(problems):
            say(f"{key}: {len(problems) - len(new)} problems are in an earlier source, too; left out")
        kept[key] = without(new, list(held_out))
        if len(kept[key]) < len(new):
            say(f"{key}: {len(new) - len(kept[key])} problems are also in data.eval; left out of training")
        if not kept[key]:
            raise UserError(f"{key}: at least one problem must remain, got none")
    return kept


def gradable_problems(
    source: AnySource,
    role: Role,
    graders: Graders,
    *,
    seed: int,
    bad_rows: BadRows,
    say: Callable[[str], None],
    key: str,
) -> list[Placed]:
    """Each question once, in the order of the source, of those that the grader can grade: no tokenizer is needed.

    Repeats are said, and what cannot be read goes to `bad_rows`. Raises UserError as `usable_problems`.
    """
    loaded = load_problems(source, role, seed, bad_rows)
    if loaded.repeats:
        say(f"{key}: {_count(loaded.repeats, 'exact repeat')} merged")
    gradable: list[Placed] = []
    reasons = graders.readable([placed.problem for placed in loaded.problems])
    for placed, reason in zip(loaded.problems, reasons, strict=True):
        if reason is None:
            gradable.append(placed)
        else:
            bad_rows.leave_out(placed.where, reason)
    return gradable


def account_for(problems: Sequence[Problem], key: str, bad_rows: BadRows, say: Callable[[str], None]) -> None:
    """Say how many rows are left out. Raises UserError if no problem remains."""
    if bad_rows.count:
        say(f"{key}: {bad_rows.summary()}")
    if not problems:
        raise UserError(f"{key}: at least one problem must remain, got none ({bad_rows.count} rows malformed)")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
