"""Batches that the tests of the objective share. Helpers come as session fixtures that give a function."""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import Tensor

from fipo.objective import Algorithm, FIPOConfig, LossInputs, LossOutput, fused, policy_loss

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_inputs() -> Callable[..., LossInputs]:
    """A random batch with everything that the loss treats specially: masks with holes and padding,
    both signs of the advantage, ratios beyond every threshold, sequences that the filter drops."""

    def build(seed: int, rows: int = 6, tokens: int = 40, noise: float = 0.15, spikes: float = 0.05) -> LossInputs:
        generator = torch.Generator().manual_seed(seed)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, dtype=torch.float64)

        log_ratio = noise * torch.randn(rows, tokens, generator=generator, dtype=torch.float64)
        log_ratio += 0.4 * (uniform(rows, 1) - 0.5)  # some responses drift up, some down
        log_ratio += (uniform(rows, tokens) < spikes) * (0.8 + 2.2 * uniform(rows, tokens))
        old_logprobs = -3 * uniform(rows, tokens)
        length = (tokens * (0.3 + 0.7 * uniform(rows, 1))).ceil()
        inside = torch.arange(tokens) < length
        sign = torch.where(torch.arange(rows) % 2 == 0, 1.0, -1.0).double()
        return LossInputs(
            logprobs=(old_logprobs + log_ratio).requires_grad_(),
            old_logprobs=old_logprobs,
            advantages=sign * (0.2 + uniform(rows)),
            loss_mask=inside & (uniform(rows, tokens) < 0.9),
        )

    return build


@pytest.fixture(scope="session")
def run() -> Callable[..., tuple[LossOutput, Tensor]]:
    """policy_loss and the gradient of its loss with respect to logprobs."""

    def call(inputs: LossInputs, algorithm: Algorithm | FIPOConfig, **options: object) -> tuple[LossOutput, Tensor]:
        logprobs = inputs.logprobs.detach().clone().requires_grad_()
        out = policy_loss(replace(inputs, logprobs=logprobs), algorithm, **options)
        (gradient,) = torch.autograd.grad(out.loss, logprobs)
        return out, gradient

    return call


@pytest.fixture
def run_fused(run, monkeypatch) -> Callable[..., tuple[LossOutput, Tensor]]:
    """The same as on a CUDA device: there where there is one, else with the Triton kernels interpreted on the CPU."""
    if find_spec("triton") is None:
        pytest.skip("needs triton")
    monkeypatch.setattr(fused, "_runs_on", lambda logprobs, _: logprobs.dtype == torch.float32 and logprobs.numel() > 0)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def call(inputs: LossInputs, algorithm: Algorithm | FIPOConfig, **options: object) -> tuple[LossOutput, Tensor]:
        given = {name: tensor for name, tensor in vars(inputs).items() if tensor is not None}
        there = LossInputs(**{name: tensor.detach().to(device) for name, tensor in given.items()})
        with np.errstate(all="ignore"):  # the interpreter computes in numpy, which warns of inf - inf
            out, gradient = run(there, algorithm, **options)
        return out, gradient.cpu()

    return call
