"""verl's whole loss with all of FIPO's metrics, and the credit of tokens: what `v1.py` hands to the workers."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fipo.integrations.shared import note_slower_objective, sampler_gap
from fipo.integrations.verl.compat import VerlMismatch, check_whole_loss
from fipo.integrations.verl.credit import CreditWriter
from fipo.integrations.verl.knobs import LOSS_NAME
from fipo.integrations.verl.metrics import travelling
from fipo.integrations.verl.policy_loss import require_registered, whole_loss
from fipo.objective import Metric

STEP_KEY = "fipo_step"  # set by v1.py; travels with the batch


@dataclass(frozen=True, kw_only=True)
class MicroBatchPlace:
    """Where a micro-batch of this rank stands."""

    step: int
    mini_batch: int  # of the step
    row: int  # of the mini-batch, its first one


class WholeLoss:
    """`ppo_loss` of verl, entropy and KL terms included, with the policy loss `future_kl`, for one worker.

    config: verl's ActorConfig. credit: where the credit of the first sequences is written, if anywhere.
    """

    def __init__(self, config: Any, credit: CreditWriter | None = None) -> None:
        self._config = config
        self._credit = credit
        self._step: int | None = None
        self._seen = 0  # rows of this step on this rank

    def __call__(self, model_output: Any, data: Any, dp_group: Any = None) -> tuple[Tensor, dict[str, Any]]:
        """(loss, metrics) of a micro-batch."""
        from verl.workers.utils.losses import ppo_loss

        with whole_loss(dp_group) as call:
            loss, metrics = ppo_loss(self._config, model_output, data, dp_group)
        if call.output is None:
            raise VerlMismatch(f"verl's ppo_loss did not call the policy loss {LOSS_NAME!r} of fipo")
        place = self._place_of(data, rows=call.output.loss_mask.shape[0])
        metrics |= travelling(call.output, mini_batch=place.mini_batch, more=_gap(data))
        if self._credit is not None:
            self._credit.add(call.output, data, step=place.step, mini_batch=place.mini_batch, before=place.row)
        return loss, metrics

    def _place_of(self, data: Any, *, rows: int) -> MicroBatchPlace:
        from verl.utils import tensordict_utils as tu

        step = int(tu.get_non_tensor_data(data=data, key=STEP_KEY, default=0))
        if step != self._step:
            self._step, self._seen = step, 0
        mini_batch, row = divmod(self._seen, data["global_batch_size"] // data["dp_size"])
        self._seen += rows
        return MicroBatchPlace(step=step, mini_batch=mini_batch, row=row)


class WorkerLoss:
    """What travels to each training worker: its loss function, which checks the worker at the first call.

    actor: verl's actor configuration, from which the worker builds its own ActorConfig.
    """

    def __init__(self, actor: Any, model: Any) -> None:
        self._actor = actor
        self._model = model
        self._loss: WholeLoss | None = None

    def __call__(self, model_output: Any, data: Any, dp_group: Any = None) -> tuple[Tensor, dict[str, Any]]:
        if self._loss is None:
            self._loss = self._build()
        return self._loss(model_output, data, dp_group)

    def _build(self) -> WholeLoss:
        from verl.utils.config import omega_conf_to_dataclass

        require_registered()
        check_whole_loss()
        note_slower_objective()
        config = omega_conf_to_dataclass(self._actor)
        config.model_config = omega_conf_to_dataclass(self._model)
        options = config.policy_loss
        first = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
        credit = None
        if options.credit_sequences and first:
            tokenizer = config.model_config.tokenizer
            credit = CreditWriter(options.credit_dir, sequences=options.credit_sequences, tokenizer=tokenizer)
        return WholeLoss(config, credit)


def _gap(data: Any) -> dict[str, Metric]:
    """To the sampler's log-probs, where verl's data has them."""
    if "rollout_log_probs" not in data:
        return {}
    padded = data.select("rollout_log_probs", "old_log_probs", "response_mask").to_padded_tensor()
    return sampler_gap(padded["old_log_probs"], padded["rollout_log_probs"], padded["response_mask"].bool())
