"""Reward functions for TRL: our graders, and DAPO's overlong penalty."""

from collections.abc import Callable
from typing import Any

from trl.rewards import get_soft_overlong_punishment

from fipo.tasks.graders import resolve
from fipo.tasks.problem import Problem

Completion = str | list[dict[str, Any]]  # text, or the messages that a chat model added


def grader_reward(grader: str, *, answer_column: str = "answer") -> Callable[..., list[float]]:
    """+1 for a correct answer, -1 otherwise, 0 where the grader failed, by the grader of that name.

    grader: one of ours ("number", "math", "dapo", ...) or "module:function". The right answers come from the
    dataset's `answer_column`; its other columns are the problem's metadata. It grades in this process, without a
    deadline. Raises UserError for a grader that cannot be had, ValueError for a dataset without the column.
    """
    grade = resolve(grader)

    def reward(prompts: list[Any], completions: list[Completion], **columns: Any) -> list[float]:
        columns.pop("completion_ids", None)
        if answer_column not in columns:
            raise ValueError(f"the dataset must have the column {answer_column!r}, got {', '.join(sorted(columns))}")
        rows = {
            name: values for name, values in columns.items() if isinstance(values, list) and name != "completion_ids"
        }
        rewards = []
        for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            answer = str(columns[answer_column][i])
            metadata = {name: values[i] for name, values in rows.items()}
            problem = Problem(id=str(i), prompt=prompt, answer=answer, source="trl", metadata=metadata)
            verdict = grade(_text(completion), problem)
            rewards.append(1.0 if verdict.correct else 0.0 if verdict.failed else -1.0)
        return rewards

    reward.__name__ = f"{grader.rpartition(':')[2]}_accuracy"  # TRL's logs and accuracy_reward name it so
    return reward


def overlong_penalty(max_completion_length: int, *, buffer: int) -> Callable[..., list[float]]:
    """0 up to `max_completion_length - buffer` tokens, then linear to -1 (DAPO, arXiv 2503.14476, Eq. 13): TRL's own.

    Dynamic sampling judges the accuracy alone, so this comes after it in `reward_funcs`.
    """
    if not 0 <= buffer <= max_completion_length:
        raise ValueError(f"buffer must be in [0, {max_completion_length}] tokens, got {buffer}")
    return get_soft_overlong_punishment(max_completion_length, buffer)


def _text(completion: Completion) -> str:
    return completion if isinstance(completion, str) else "".join(str(part["content"]) for part in completion)
