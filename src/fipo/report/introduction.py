"""The first paragraph of a report: what the runs are asked to do, what f is, and what good looks like."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from fipo.errors import UserError
from fipo.report.credit_sample import first_rollout
from fipo.telemetry.run_directory import RunDirectory

LONGEST = 160  # characters of an example's problem
TASKS = {  # of the sources that fipo makes itself
    "signed_sums": "Sums of digits with signs, to be worked out in writing; the last number is the answer.",
    "countdown": "Reach a number with the given ones, each used once, and + - * /.",
    "relay": "Digits that are handed on in blocks: a task in which the worth of every token is known.",
}

PAGE = """What a language model learned by trial: it answered problems, and the right answers were made likelier, the
wrong ones less likely. First come the curves of the training, then, for single answers, what it did to each token."""

WEIGHT = """Each token of a response has the advantage of its response: how much better that is than the others to the
same problem. FIPO multiplies it by a weight <b>f</b>, token by token: above 1 where the token and those that follow it
became likelier since they were sampled, below 1 where they became less likely. DAPO is f = 1 everywhere."""

GOOD = """Held-out accuracy rises, and with it the reward; responses grow longer where that makes them right, not by
themselves; the entropy falls slowly."""

GOOD_WEIGHTS = """f leaves 1 by some hundredths or more for many tokens, and few are at a bound
other than 1; at a bound of 1 f does nothing. Early in a run the response signal lies above its band; a single step
inside it may be chance, so that <code>fipo doctor</code> judges the mean of up to 50 steps. Whether FIPO is better than
DAPO shows over several seeds alone."""


def introduction(runs: Mapping[str, RunDirectory]) -> str:
    """Four paragraphs of HTML. Of runs with different tasks the first one's is told."""
    told = [("This page.", PAGE)]
    told += [("The task.", told_task)] if (told_task := _task(runs.values())) else []
    good = f"{GOOD} {GOOD_WEIGHTS}" if any(map(_has_weights, runs.values())) else GOOD
    told += [("What f is.", WEIGHT), ("What good looks like.", good)]
    return "".join(f'<p class="lead"><b>{title}</b> {text}</p>' for title, text in told)


def _has_weights(run: RunDirectory) -> bool:
    """False where the bounds hold every f at one number, as DAPO's do at 1."""
    bounds = run.read_config().get("resolved", {}).get("objective", {}).get("influence_clip")
    return bounds is None or bounds[0] != bounds[1]


def _task(runs: Iterable[RunDirectory]) -> str:
    """What is asked, with an example of the first run that recorded one; "" of runs that do not say."""
    described = ""
    for run in runs:
        data = run.read_config().get("data", {})
        described = described or _described(data.get("train") or {}, data.get("grader"))
        if example := _example(run):
            return f"{described} {example}".strip()
    return described


def _described(source: Mapping[str, Any], grader: str | None) -> str:
    kind = source.get("source")
    if kind is None:
        return ""
    named = source.get("path") or source.get("name") or kind
    own = TASKS.get(kind) or f"Problems of {named if isinstance(named, str) else ', '.join(map(str, named))}."
    return escape(own) + (f" The grader is <code>{escape(grader)}</code>." if grader else "")


def _example(run: RunDirectory) -> str:
    try:
        record = first_rollout(run)
    except UserError:
        return ""
    if not record or not record.get("prompt") or not record.get("expected"):
        return ""
    prompt = record["prompt"].strip()
    if len(prompt) > LONGEST:  # a few-shot prompt ends with the problem
        prompt = "... " + prompt[-LONGEST:]
    return (
        f"For example <code>{escape(prompt)}</code>, to which <code>{escape(str(record['expected']))}</code> is right."
    )
