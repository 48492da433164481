"""Per-token credit of a few sequences of each mini-batch, as JSON lines in the shape of our own rollouts."""

import math
from pathlib import Path
from typing import Any

from torch import Tensor

from fipo.objective import LossOutput, token_credit
from fipo.telemetry.rollouts import RolloutRecord, line_of

STEP_KEY = "fipo_step"  # set by v1.py; travels with the batch


class CreditWriter:
    """Appends to `folder/step_NNNNNN.jsonl`: the first `sequences` responses of each mini-batch on this rank.

    A step that is done again after a resume starts its file anew.
    """

    def __init__(self, folder: str, *, sequences: int, tokenizer: Any) -> None:
        self._folder = Path(folder)
        self._sequences = sequences
        self._tokenizer = tokenizer
        self._step: int | None = None
        self._seen = 0  # sequences of this step

    def add(self, out: LossOutput, data: Any) -> None:
        """One micro-batch: the loss's output and verl's data (nested prompts and responses)."""
        from verl.utils import tensordict_utils as tu

        step = int(tu.get_non_tensor_data(data=data, key=STEP_KEY, default=0))
        if step != self._step:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._path(step).unlink(missing_ok=True)
            self._step, self._seen = step, 0
        rows = out.loss_mask.shape[0]
        mini_batch, before = divmod(self._seen, data["global_batch_size"] // data["dp_size"])
        self._seen += rows
        count = min(self._sequences - before, rows)
        if count <= 0:
            return
        prompts, responses = _rows(data["prompts"]), _rows(data["responses"])
        with self._path(step).open("a", encoding="utf-8") as file:
            for row in range(count):
                file.write(line_of(self._line(out, row, mini_batch, prompts[row], responses[row])))

    def _path(self, step: int) -> Path:
        return self._folder / f"step_{step:06d}.jsonl"

    def _line(
        self, out: LossOutput, row: int, mini_batch: int, prompt: list[int], response: list[int]
    ) -> RolloutRecord:
        mask = out.loss_mask[row]
        trained = [token for token, is_trained in zip(response, mask.tolist(), strict=False) if is_trained]
        advantage = float(out.advantages[row][mask][0]) if trained else 0.0  # one for all tokens
        decode = self._tokenizer.decode
        credit = token_credit(out, row)
        return RolloutRecord(
            step=self._step or 0,
            prompt=decode(prompt),
            response=decode(response),
            tokens=[decode([token]) for token in trained],
            advantage=advantage if math.isfinite(advantage) else None,
            mini_batch=mini_batch,
            left_out=credit["left_out"],
            log_ratio=credit["log_ratio"],
            future_kl=credit["future_kl"],
            influence_weight=credit["influence_weight"],
            marks=credit["marks"],
        )


def _rows(tokens: Tensor) -> list[list[int]]:
    """The rows of a nested tensor, or of a padded one with its padding."""
    return [row.tolist() for row in (tokens.unbind() if tokens.is_nested else tokens)]
