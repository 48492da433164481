"""Log-probs of a pack's tokens under a model: one function for the old and the new ones.

The logits of all tokens never exist at once: they are made from the last hidden states a chunk of tokens at a time,
and made again in the backward pass. A 20,480-token response over 152k words would need 11.6 GiB per copy in float32.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from fipo.training.packing import Pack

CHUNK = 2**25  # logits at a time: 128 MiB in float32


@dataclass(frozen=True, kw_only=True)
class ScoredPack:
    pack: Pack
    old_logprobs: Tensor  # [B, K] under the weights before the step's first update, 0 off the loss mask
    entropy: Tensor  # [B, K] nats, of the distribution that each token came from, 0 off the loss mask


@torch.no_grad()
def score(
    model: PreTrainedModel, pack: Pack, temperature: float, beat: Callable[[], None] = lambda: None
) -> ScoredPack:
    """The pack with its old log-probs: the same rows, shapes and kernels as the update will use."""
    hidden, tokens = _scored(model, pack)
    chunks = [_logprobs_and_entropy(*chunk, model, temperature) for chunk in _chunks(model, hidden, tokens)]
    beat()
    return ScoredPack(
        pack=pack,
        old_logprobs=_placed(pack, [logprobs for logprobs, _ in chunks]),
        entropy=_placed(pack, [entropy for _, entropy in chunks]),
    )


def token_logprobs(model: PreTrainedModel, pack: Pack, temperature: float) -> Tensor:
    """[B, K] log softmax(logits / temperature) of each loss token, with its graph; 0 off the loss mask."""
    hidden, tokens = _scored(model, pack)
    chunks = _chunks(model, hidden, tokens)
    if len(chunks) == 1:
        return _placed(pack, [_logprobs(*chunks[0], model, temperature)])
    return _placed(
        pack,
        [
            checkpoint(_logprobs, *chunk, model, temperature, use_reentrant=False, preserve_rng_state=False)
            for chunk in chunks
        ],
    )


def _scored(model: PreTrainedModel, pack: Pack) -> tuple[Tensor, Tensor]:
    """(what the output layer sees before each of the N loss tokens [N, hidden], the tokens [N])."""
    scored = pack.loss_mask.shape[1]
    if has_plain_head(model):
        hidden = model.get_decoder()(input_ids=pack.input_ids, use_cache=False).last_hidden_state
        before = hidden[:, -scored - 1 : -1]
    else:
        before = model(input_ids=pack.input_ids, use_cache=False, logits_to_keep=scored + 1).logits[:, :-1]
    return before[pack.loss_mask], pack.scored_ids[pack.loss_mask]


def _chunks(model: PreTrainedModel, hidden: Tensor, tokens: Tensor) -> list[tuple[Tensor, Tensor]]:
    size = max(1, CHUNK // model.config.get_text_config().vocab_size)
    return list(zip(hidden.split(size), tokens.split(size), strict=True))


def _logprobs(hidden: Tensor, tokens: Tensor, model: PreTrainedModel, temperature: float) -> Tensor:
    logits = _logits(hidden, model, temperature)
    return logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)


def _logprobs_and_entropy(
    hidden: Tensor, tokens: Tensor, model: PreTrainedModel, temperature: float
) -> tuple[Tensor, Tensor]:
    logits = _logits(hidden, model, temperature)
    normaliser = logits.logsumexp(-1)
    entropy = normaliser - (logits.softmax(-1) * logits).sum(-1)
    return logits.gather(-1, tokens[:, None])[:, 0] - normaliser, entropy


def _logits(hidden: Tensor, model: PreTrainedModel, temperature: float) -> Tensor:
    """[N, V] logits / temperature, in float32 at least."""
    logits = model.get_output_embeddings()(hidden) if has_plain_head(model) else hidden
    return logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature


def _placed(pack: Pack, values: list[Tensor]) -> Tensor:
    """[B, K] with the values of the loss tokens where these stand."""
    together = torch.cat(values)
    return together.new_zeros(pack.loss_mask.shape).masked_scatter(pack.loss_mask, together)


@lru_cache(maxsize=1)
@torch.no_grad()
def has_plain_head(model: PreTrainedModel) -> bool:
    """Whether a model's logits are its output layer applied to its last hidden states, and nothing else.

    Where they are not (capped or scaled logits), the logits of a pack exist at once.
    """
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    if decoder is None or decoder is model or head is None:
        return False
    probe = torch.tensor([[2, 3, 4, 5]], device=model.device)
    hidden = decoder(input_ids=probe, use_cache=False).last_hidden_state
    return torch.equal(head(hidden), model(input_ids=probe, use_cache=False).logits)
