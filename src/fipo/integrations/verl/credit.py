"""Per-token credit of a few sequences of each mini-batch, as JSON lines in the shape of our own rollouts."""

import math
from pathlib import Path
from typing import Any

from torch import Tensor

from fipo.objective import LossOutput, token_credit
from fipo.telemetry.rollouts import RolloutRecord, line_of


class CreditWriter:
    """Appends to `folder/step_NNNNNN.jsonl`: the first `sequences` responses of each mini-batch on this rank.

    A step that is done again after a resume starts its file anew.
    """

    def __init__(self, folder: str, *, sequences: int, tokenizer: Any) -> None:
        self._folder = Path(folder)
        self._sequences = sequences
        self._tokenizer = tokenizer
        self._step: int | None = None

    def add(self, out: LossOutput, data: Any, *, step: int, mini_batch: int, before: int) -> None:
        """One micro-batch: the loss's output, verl's data (nested prompts and responses), and its place in the step.

        before: rows of its mini-batch that this rank has had already.
        """
        if step != self._step:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._path(step).unlink(missing_ok=True)
            self._step = step
        count = min(self._sequences - before, out.loss_mask.shape[0])
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
