"""The algorithm: FIPO, and what it is compared with as other values of it.

Depends on torch and the standard library only.

    cfg = FIPOConfig.release_32b()
    out = policy_loss(
        LossInputs(logprobs=..., old_logprobs=..., advantages=..., loss_mask=...), cfg
    )
    out.loss.backward()
"""

from fipo.objective.advantages import group_advantages
from fipo.objective.algorithm import ALGORITHMS, KNOBS, Algorithm, algorithm
from fipo.objective.config import AGGREGATIONS, Aggregation, FIPOConfig
from fipo.objective.credit import token_credit
from fipo.objective.future_kl import future_kl
from fipo.objective.importance import (
    importance_mask,
    importance_metrics,
    importance_weights,
    truncated_importance_weights,
)
from fipo.objective.influence import (
    Influence,
    bounded_weights,
    fipo_influence,
    influence_kl,
    participating,
)
from fipo.objective.kl_penalty import kl_penalty
from fipo.objective.metrics import (
    Max,
    Mean,
    Metric,
    Metrics,
    Min,
    RatioHistogram,
    Std,
    Sum,
    merge_metrics,
    metric_values,
)
from fipo.objective.output import LossOutput
from fipo.objective.policy_loss import policy_loss
from fipo.objective.surrogates import SURROGATES, Surrogate, Tokens
from fipo.objective.types import LossInputs

__all__ = [
    "AGGREGATIONS",
    "ALGORITHMS",
    "KNOBS",
    "SURROGATES",
    "Aggregation",
    "Algorithm",
    "FIPOConfig",
    "Influence",
    "LossInputs",
    "LossOutput",
    "Max",
    "Mean",
    "Metric",
    "Metrics",
    "Min",
    "RatioHistogram",
    "Std",
    "Sum",
    "Surrogate",
    "Tokens",
    "algorithm",
    "bounded_weights",
    "fipo_influence",
    "future_kl",
    "group_advantages",
    "importance_mask",
    "importance_metrics",
    "importance_weights",
    "influence_kl",
    "kl_penalty",
    "merge_metrics",
    "metric_values",
    "participating",
    "policy_loss",
    "token_credit",
    "truncated_importance_weights",
]
