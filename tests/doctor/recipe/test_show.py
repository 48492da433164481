from dataclasses import replace

from rich.console import Console
from tests.training.helpers import random_groups

from fipo.data.problem import Problem
from fipo.data.templates import in_template
from fipo.doctor.recipe.probe import Probe
from fipo.doctor.recipe.samples import figures_of
from fipo.doctor.recipe.show import show_samples
from fipo.doctor.recipe.timing import DecodeSpeed, Speeds

SPEEDS = Speeds(
    decode=DecodeSpeed(fixed=0.0, per_row=0.0), slowdown=1.0, prefill_per_token=0.0, grade_per_answer=0.0,
    score_per_token=0.0, update_per_token=0.0, optimizer_step=0.0, packed=False,
)  # fmt: skip


def test_of_a_problem_in_a_template_the_question_is_shown():
    groups = []
    for group, question in zip(random_groups(2, 2), ("What is 2 + 2?", "How many primes are even?"), strict=True):
        bare = Problem(id=question, prompt=question, answer="4", source="test")
        groups.append(replace(group, problem=in_template(bare, "dapo", "here")))
    console = Console(record=True, width=200, quiet=False)
    figures = figures_of(groups, 2)
    show_samples(
        console, Probe(groups=groups, figures=figures, speeds=SPEEDS, eval_problems=1, logprob_gap=0.0, said=[])
    )
    shown = console.export_text().splitlines()
    assert "  What is 2 + 2?   (answer: 4)" in shown
    assert "  How many primes are even?   (answer: 4)" in shown
