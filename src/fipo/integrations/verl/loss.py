"""verl's whole loss with FIPO's metrics, each with its own reduction: what `v1.py` hands to the workers.

verl's `ppo_loss` makes a mean of whatever metric a policy loss returns. Around it there is room for maxima.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from fipo.integrations.shared import sampler_gap
from fipo.integrations.verl.compat import VerlMismatch, check_whole_loss
from fipo.integrations.verl.credit import CreditWriter
from fipo.integrations.verl.knobs import LOSS_NAME
from fipo.integrations.verl.metrics import typed
from fipo.integrations.verl.policy_loss import require_registered, whole_loss
from fipo.objective import LossOutput, Mean, Metric


def fipo_loss(
    config: Any, model_output: Any, data: Any, dp_group: Any = None, *, credit: CreditWriter | None = None
) -> tuple[Tensor, dict[str, Any]]:
    """`ppo_loss` of verl, entropy and KL terms included, with the policy loss `future_kl`. Returns (loss, metrics)."""
    from verl.workers.utils.losses import ppo_loss

    with whole_loss(dp_group) as call:
        loss, metrics = ppo_loss(config, model_output, data, dp_group)
    if call.output is None:
        raise VerlMismatch(f"verl's ppo_loss did not call the policy loss {LOSS_NAME!r} of fipo")
    batch = config.global_batch_info
    tokens, ranks = float(batch["batch_num_tokens"]), float(batch["dp_size"])
    metrics.update(typed(_metrics(call.output, data), tokens=tokens, ranks=ranks))
    if credit is not None:
        credit.add(call.output, data)
    return loss, metrics


def _metrics(out: LossOutput, data: Any) -> dict[str, Metric]:
    """Of a micro-batch: the objective's, the share of tokens that the filter kept, and the gap to the sampler."""
    kept: dict[str, Metric] = {"fipo/kept_token_share": Mean(float(out.kept_tokens), float(out.loss_mask.sum()))}
    if "rollout_log_probs" not in data:
        return kept | out.metrics()
    padded = data.select("rollout_log_probs", "old_log_probs", "response_mask").to_padded_tensor()
    mask = padded["response_mask"].bool()
    return kept | out.metrics() | sampler_gap(padded["old_log_probs"], padded["rollout_log_probs"], mask)


class WorkerLoss:
    """What travels to each training worker: its loss function, which checks the worker at the first call.

    actor: verl's actor configuration, from which the worker builds its own ActorConfig.
    """

    def __init__(self, actor: Any, model: Any) -> None:
        self._actor = actor
        self._model = model
        self._loss: Any = None

    def __call__(self, model_output: Any, data: Any, dp_group: Any = None) -> tuple[Tensor, dict[str, Any]]:
        if self._loss is None:
            self._loss = self._build()
        return self._loss(model_output=model_output, data=data, dp_group=dp_group)

    def _build(self) -> Any:
        from verl.utils.config import omega_conf_to_dataclass

        require_registered()
        check_whole_loss()
        config = omega_conf_to_dataclass(self._actor)
        config.model_config = omega_conf_to_dataclass(self._model)
        options = config.policy_loss
        first = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
        credit = None
        if options.credit_sequences and first:
            tokenizer = config.model_config.tokenizer
            credit = CreditWriter(options.credit_dir, sequences=options.credit_sequences, tokenizer=tokenizer)
        return partial(fipo_loss, config, credit=credit)
