"""Evaluation: estimators with intervals, and the runner that samples and grades."""

from fipo.evaluation.estimators import avg_at_k, cons_at_k, interval, pass_at_k

__all__ = ["avg_at_k", "cons_at_k", "interval", "pass_at_k"]
