"""Whether a model is trained on padded rows or on sequences packed into one row."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fipo.errors import UserError
from fipo.models.attention import Compared, obstacle, special_attention
from fipo.models.limits import longest_of
from fipo.rollout.engine.trial import reach, words_of
from fipo.training.passes.logprobs import score
from fipo.training.passes.packing import Layout, pack_of

SHORT = [([5, 6, 7, 4], [3]), ([2], [4]), ([3], [3, 5]), ([3], [2])]  # (prompt, response), in any vocabulary

Sequences = Sequence[tuple[list[int], list[int]]]


def layout_of(model: PreTrainedModel, say: Callable[[str], None], longest: int | None = None) -> Layout:
    """Packed, which is faster on a CPU as well; or padded, with one line that says why.

    Both are tried as far as sequences of `longest` tokens (prompt and response) may differ from short ones; None: as
    long as the model's positions. Raises UserError for a model whose log-probs depend on more than what comes before.
    """
    longer = map(words_of, reach(model.config, longest or longest_of(model.config)))
    sequences = [*SHORT, *((words[:1], words[1:]) for words in longer)]
    reason = special_attention(model) or obstacle(model, lambda: trial(model, "packed", sequences))
    if reason is None:
        return "packed"
    if failure := obstacle(model, lambda: trial(model, "padded", sequences)):
        raise UserError(f"model.path: {type(model).__name__} cannot be trained: on padded sequences, {failure}")
    say(f"note: {type(model).__name__} is trained on padded sequences, which is slower: {reason}")
    return "padded"


@torch.no_grad()
def trial(model: PreTrainedModel, layout: Layout, sequences: Sequences) -> list[Compared]:
    """How far the log-probs of sequences that stand together are from those of each alone."""
    largest = float(model(input_ids=torch.tensor([sequences[0][0]], device=model.device)).logits.abs().max())
    compared = []
    for one, together in zip(sequences, _logprobs(model, layout, sequences), strict=True):
        [alone] = _logprobs(model, "padded", [one])
        length = len(one[0]) + len(one[1])
        compared.append(Compared(tokens=length, error=float((together - alone).abs().mean()), largest=largest))
    return compared


def _logprobs(model: PreTrainedModel, layout: Layout, sequences: Sequences) -> list[Tensor]:
    """The log-probs of each response's tokens, as they are trained."""
    logprobs = score(model, pack_of(sequences, layout, model.device), 1.0, entropy=False).logprobs
    return [row[: len(response)] for row, (_, response) in zip(logprobs, sequences, strict=True)]
