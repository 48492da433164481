"""Evaluation: estimators with intervals, and the runner that samples and grades."""

from fipo.evaluation.estimators import avg_at_k, cons_at_k, interval, pass_at_k
from fipo.evaluation.runner import Evaluation, evaluate

__all__ = ["Evaluation", "avg_at_k", "cons_at_k", "evaluate", "interval", "pass_at_k"]
