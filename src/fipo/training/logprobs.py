"""Log-probs of a pack's tokens under a model: one function for the old and the new ones."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fipo.training.packing import Pack


@dataclass(frozen=True, kw_only=True)
class ScoredPack:
    pack: Pack
    old_logprobs: Tensor  # [B, K] under the weights before the step's first update
    entropy: Tensor  # [B, K] nats, of the distribution that each token came from


@torch.no_grad()
def score(
    model: PreTrainedModel, pack: Pack, temperature: float, beat: Callable[[], None] = lambda: None
) -> ScoredPack:
    """The pack with its old log-probs: the same rows, shapes and kernels as the update will use."""
    distributions = _distributions(model, pack, temperature)
    beat()
    return ScoredPack(
        pack=pack,
        old_logprobs=_of_tokens(distributions, pack),
        entropy=torch.special.entr(distributions.exp()).sum(-1),
    )


def token_logprobs(model: PreTrainedModel, pack: Pack, temperature: float) -> Tensor:
    """[B, K] log softmax(logits / temperature) of each scored token, with its graph."""
    return _of_tokens(_distributions(model, pack, temperature), pack)


def _distributions(model: PreTrainedModel, pack: Pack, temperature: float) -> Tensor:
    """[B, K, V] log-probs over the vocabulary at each scored token."""
    scored = pack.loss_mask.shape[1]
    logits = model(input_ids=pack.input_ids, use_cache=False, logits_to_keep=scored + 1).logits[:, :-1]
    wide = torch.promote_types(logits.dtype, torch.float32)
    return torch.log_softmax(logits.to(wide) / temperature, dim=-1)


def _of_tokens(distributions: Tensor, pack: Pack) -> Tensor:
    return distributions.gather(-1, pack.scored_ids[:, :, None])[:, :, 0]
