"""The discounted sum of what happens after a token."""

import torch
from torch import Tensor

from fipo.objective.config import check_number
from fipo.objective.types import ArrayLike


@torch.no_grad()
def future_kl(log_ratio: ArrayLike, half_life: float = 32.0) -> Tensor:
    """F_t = sum over k >= t of gamma^(k-t) x_k, with gamma = 2^(-1/half_life) (FIPO, 2603.19835, Eq. 4).

    Shapes: log_ratio [B, T], a tensor, an array or lists -> [B, T], float32 or better, without a graph.
    The current token is included, rows are independent. Tokens that take no part must be 0 in the input; they
    still advance the distance. half_life is in tokens; inf is the undiscounted sum.

    By doubling: if y sums the s tokens from t on, y_t + gamma^s y_(t+s) sums 2s of them, so log2(T) passes
    are enough, fewer once gamma^s is far below the rounding of the dtype.
    Errors: ValueError for another shape or a half_life that is not > 0.

    >>> future_kl([[0.0, 0.0, 1.0]], half_life=1.0)
    tensor([[0.2500, 0.5000, 1.0000]])
    """
    log_ratio = torch.as_tensor(log_ratio)
    if log_ratio.dim() != 2:
        raise ValueError(f"log_ratio must have shape [B, T], got {list(log_ratio.shape)}")
    check_number("half_life", half_life, "> 0 tokens", lambda v: v > 0)
    dtype = torch.promote_types(log_ratio.dtype, torch.float32)
    negligible = torch.finfo(dtype).eps ** 2

    total = log_ratio.to(dtype, copy=True)
    spare = torch.empty_like(total)
    shift = 1
    while shift < total.shape[1] and (decay := 2.0 ** (-shift / half_life)) > negligible:
        torch.add(total[:, :-shift], total[:, shift:], alpha=decay, out=spare[:, :-shift])
        spare[:, -shift:] = total[:, -shift:]
        total, spare = spare, total
        shift *= 2
    return total
