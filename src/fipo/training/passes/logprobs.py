"""Log-probs of a pack's tokens under a model: one function for the old and the new ones.

The logits of all tokens never exist at once: they are made from the last hidden states a chunk of tokens at a time,
and made again in the backward pass. A 20,480-token response over 152k words would need 11.6 GiB per copy in float32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from fipo.beat import Beat
from fipo.models.kernels import kernel_obstacle
from fipo.training.passes.packed_attention import forward
from fipo.training.passes.packing import Pack

CHUNK = {"cpu": 2**25, "cuda": 2**28}  # logits at a time: 128 MiB, 1 GiB in float32, of which some copies exist
PLAIN_HEADS: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()  # what is known of models


@dataclass(frozen=True, kw_only=True)
class Scores:
    logprobs: Tensor  # [B, K] log softmax(logits / temperature) of each trained token, 0 off the loss mask
    entropy: Tensor | None  # [B, K] nats, of the distribution that each token came from, 0 off the mask

    def detached(self) -> "Scores":
        """The same without a graph."""
        return Scores(logprobs=self.logprobs.detach(), entropy=None if self.entropy is None else self.entropy.detach())


def score(
    model: PreTrainedModel, pack: Pack, temperature: float, *, entropy: bool, entropy_graph: bool = False
) -> Scores:
    """The scores of a pack's trained tokens; the log-probs with their graph where gradients are on.

    entropy: give the entropies, too; with a graph of their own if `entropy_graph`, which costs memory.
    """
    chunks = _chunks(model, pack)
    scores_of = partial(_score, model=model, temperature=temperature, with_entropy=entropy, entropy_graph=entropy_graph)
    if len(chunks) == 1:
        scored = [scores_of(*chunks[0])]
    else:
        scored = [checkpoint(scores_of, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks]
    return Scores(
        logprobs=_placed(pack, [logprobs for logprobs, _ in scored]),
        entropy=_placed(pack, [entropies for _, entropies in scored]) if entropy else None,
    )


@torch.no_grad()
def old_scores(
    model: PreTrainedModel,
    packs: Sequence[Pack],
    temperature: float,
    beat: Beat,
    *,
    entropy: bool = True,
) -> list[Scores]:
    """The scores before the step's first update: of the same tensors, by the same kernels as the new ones."""
    scores = []
    for pack in packs:
        scores.append(score(model, pack, temperature, entropy=entropy))
        beat()
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)  # its time is this phase's
    return scores


def _chunks(model: PreTrainedModel, pack: Pack) -> list[tuple[Tensor, Tensor]]:
    """(what the output layer sees before each trained token [N, hidden], the tokens [N]), N at a time."""
    whole: torch.nn.Module = model.get_decoder() if has_plain_head(model) else model
    out = forward(whole, model, pack.input_ids, pack.segments)
    last = out.last_hidden_state if has_plain_head(model) else out.logits
    size = max(1, CHUNK.get(model.device.type, CHUNK["cpu"]) // model.config.get_text_config().vocab_size)
    return list(zip(last.flatten(0, 1)[pack.before].split(size), pack.tokens.split(size), strict=True))


def _score(
    last: Tensor, tokens: Tensor, model: PreTrainedModel, temperature: float, with_entropy: bool, entropy_graph: bool
) -> tuple[Tensor, Tensor]:
    """(log-probs [N], entropies [N] or [0]), in float32 at least."""
    logits = model.get_output_embeddings()(last) if has_plain_head(model) else last
    if fused(logits):
        logprobs, entropy = _kernel_scores(logits, tokens, temperature)
        return logprobs, (entropy if entropy_graph else entropy.detach()) if with_entropy else entropy.new_empty(0)
    return _scores(logits, tokens, temperature, with_entropy=with_entropy, entropy_graph=entropy_graph)


def _scores(
    logits: Tensor, tokens: Tensor, temperature: float, *, with_entropy: bool, entropy_graph: bool
) -> tuple[Tensor, Tensor]:
    """The equations in torch's operations."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if temperature != 1:
        logits = logits / temperature
    normaliser = logits.logsumexp(-1)
    logprobs = logits.gather(-1, tokens[:, None])[:, 0] - normaliser
    # The entropy last: where a chunk is made again, that ends with what the backward pass needs.
    with torch.set_grad_enabled(entropy_graph and torch.is_grad_enabled()):
        entropy = normaliser - torch.linalg.vecdot(logits.softmax(-1), logits) if with_entropy else logits.new_empty(0)
    return logprobs, entropy


def fused(logits: Tensor) -> bool:
    """Whether Triton kernels score these logits: on CUDA, in no more than float32, where they run."""
    known = logits.is_cuda and logits.is_floating_point() and logits.element_size() <= 4 and logits.numel() > 0
    return known and obstacle() is None


@cache
def obstacle() -> str | None:
    """Why the kernels that score logits do not run on this process's GPU; None if they do."""
    return kernel_obstacle(partial(_kernels_are_right, torch.device("cuda")))


def _kernel_scores(logits: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    from fipo.training.passes.logprob_kernels import token_scores  # needs triton

    return token_scores(logits, tokens, temperature)


def _kernels_are_right(device: torch.device) -> bool:
    """Log-probs, entropies and gradients of some logits beside those of the equations."""
    tokens = torch.tensor([0, 4999, 1234], device=device)
    results = []
    for scores in (_kernel_scores, partial(_scores, with_entropy=True, entropy_graph=True)):
        logits = torch.linspace(-9, 9, 15000, device=device).view(3, 5000).sin().mul(5).requires_grad_()
        logprobs, entropy = scores(logits, tokens, 0.7)
        (gradient,) = torch.autograd.grad((logprobs + 0.5 * entropy).sum(), logits)
        results.append((logprobs.detach(), entropy.detach(), gradient))
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(*results, strict=True))


def _placed(pack: Pack, values: list[Tensor]) -> Tensor:
    """[B, K] with the values of the trained tokens where these stand."""
    together = torch.cat(values)
    return together.new_zeros(pack.loss_mask.shape).masked_scatter(pack.loss_mask, together)


def has_plain_head(model: PreTrainedModel) -> bool:
    """Whether a model's logits are its output layer applied to its last hidden states, and nothing else.

    Where they are not (capped or scaled logits), the logits of a pack exist at once.
    """
    if model not in PLAIN_HEADS:
        PLAIN_HEADS[model] = _try_head(model)
    return PLAIN_HEADS[model]


@torch.no_grad()
def _try_head(model: PreTrainedModel) -> bool:
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    if decoder is None or decoder is model or head is None:
        return False
    probe = torch.tensor([[2, 3, 4, 5]], device=model.device)
    hidden = decoder(input_ids=probe, use_cache=False).last_hidden_state
    return torch.equal(head(hidden), model(input_ids=probe, use_cache=False).logits)
