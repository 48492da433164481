"""The Triton kernels beside the equations of `logprobs`: on a CUDA device, or interpreted where there is none."""

import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from tests.conftest import random_model
from tests.training.passes.test_logprobs import a_pack
from torch import Tensor

from fipo.training.passes import logprobs
from fipo.training.passes.logprobs import score

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BLOCK = 64
FLOAT32 = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch):
    """As on a CUDA device, with short blocks, so that few words are many of them."""
    pytest.importorskip("triton")
    from fipo.training.passes import logprob_kernels

    monkeypatch.setattr(logprob_kernels, "BLOCK", BLOCK)
    monkeypatch.setattr(logprobs, "fused", lambda logits: logits.element_size() <= 4)
    with np.errstate(all="ignore"):  # the interpreter computes in numpy, which warns of inf - inf
        yield logprob_kernels


def batch(rows: int, words: int, spread: float = 4.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows * words)
    tokens = torch.randint(words, (rows,), generator=generator)
    return spread * torch.randn(rows, words, generator=generator).to(DEVICE), tokens.to(DEVICE)


def equations(logits: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    return logprobs._scores(logits, tokens, temperature, with_entropy=True, entropy_graph=True)


def results(scores, logits: Tensor, tokens: Tensor, temperature: float, weights=(1.0, 0.5)) -> list[Tensor]:
    """Log-probs, entropies, and the gradient of a weighted sum of them."""
    logits = logits.clone().requires_grad_()
    values = scores(logits, tokens, temperature)
    size = torch.arange(1.0, len(tokens) + 1, device=logits.device)
    loss = sum((weight * size * value).sum() for weight, value in zip(weights, values, strict=True) if weight)
    return [*(value.detach() for value in values), torch.autograd.grad(loss, logits)[0]]


def assert_close(ours: list[Tensor], expected: list[Tensor], **tolerance) -> None:
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b.to(a.dtype), equal_nan=True, **tolerance)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 5.0])
@pytest.mark.parametrize("words", [1, BLOCK - 1, BLOCK, 3 * BLOCK + 5])
def test_values_and_gradients_are_those_of_the_equations(words: int, temperature: float, kernels) -> None:
    logits, tokens = batch(3, words)
    expected = results(equations, logits.double(), tokens, temperature)
    assert_close(results(kernels.token_scores, logits, tokens, temperature), expected, **FLOAT32)


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0)])
def test_the_gradient_of_either_alone_is_that_of_the_equations(weights: tuple[float, float], kernels) -> None:
    logits, tokens = batch(2, 100)
    expected = results(equations, logits.double(), tokens, 0.9, weights)
    assert_close(results(kernels.token_scores, logits, tokens, 0.9, weights), expected, **FLOAT32)


def test_a_real_vocabulary_in_real_blocks(kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "BLOCK", 4096)
    logits, tokens = batch(2, 151_936)
    expected = results(equations, logits.double(), tokens, 1.0)
    assert_close(results(kernels.token_scores, logits, tokens, 1.0), expected, **FLOAT32)


def test_a_gradient_is_that_of_finite_differences(kernels) -> None:
    """Of float32: so far as its rounding lets a difference be seen."""
    logits, tokens = batch(1, 70, spread=1.0)
    gradient = results(kernels.token_scores, logits, tokens, 0.8)[2][0]
    for word in (int(tokens[0]), 3, 69):
        step = torch.zeros_like(logits)
        step[0, word] = 0.1
        there, back = (results(kernels.token_scores, logits + sign * step, tokens, 0.8) for sign in (1, -1))
        difference = (there[0] - back[0] + 0.5 * (there[1] - back[1])).item() / 0.2
        assert gradient[word].item() == pytest.approx(difference, abs=2e-3)


@pytest.mark.parametrize(
    "strange",
    [
        {5: -torch.inf},
        {0: -torch.inf, BLOCK: -torch.inf},
        {BLOCK + 1: torch.inf},
        {7: torch.nan},
        {7: 1e30},
        {7: -1e30},
        dict.fromkeys(range(BLOCK), -torch.inf),
        dict.fromkeys(range(2 * BLOCK), -torch.inf),
        {**dict.fromkeys(range(BLOCK), -torch.inf), **dict.fromkeys(range(BLOCK, 2 * BLOCK), -300.0)},
    ],
)
@pytest.mark.parametrize("token", [0, 7, BLOCK + 1])
def test_what_is_not_finite_is_what_torch_makes_of_it(strange: dict[int, float], token: int, kernels) -> None:
    logits, _ = batch(1, 2 * BLOCK)
    for word, value in strange.items():
        logits[0, word] = value
    tokens = torch.tensor([token], device=DEVICE)
    for weights in ((1.0, 0.0), (1.0, 0.5)):
        ours, expected = (results(f, logits, tokens, 1.0, weights) for f in (kernels.token_scores, equations))
        assert_close(ours, expected, **FLOAT32)


def test_rows_that_are_not_beside_each_other_are_the_same(kernels) -> None:
    logits, tokens = batch(4, 200)
    plain = results(kernels.token_scores, logits[:, :150].contiguous(), tokens % 150, 0.7)
    for other in (logits[:, :150], logits[:, :150].T.contiguous().T):
        for a, b in zip(results(kernels.token_scores, other, tokens % 150, 0.7), plain, strict=True):
            assert torch.equal(a, b)


def test_a_row_does_not_depend_on_the_others(kernels) -> None:
    logits, tokens = batch(3, 150)
    together = kernels.token_scores(logits, tokens, 0.7)
    for row in range(3):
        alone = kernels.token_scores(logits[row : row + 1], tokens[row : row + 1], 0.7)
        assert all(torch.equal(a[row : row + 1], b) for a, b in zip(together, alone, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_in_half_precision_are_read_as_they_are_and_have_a_gradient_of_their_kind(dtype, kernels) -> None:
    logits, tokens = batch(2, 150)
    logits = logits.to(dtype)
    ours = results(kernels.token_scores, logits, tokens, 0.7)
    expected = results(equations, logits.double(), tokens, 0.7)
    assert ours[2].dtype == dtype
    assert_close(ours[:2], expected[:2], **FLOAT32)
    assert_close(ours[2:], expected[2:], rtol=2 * torch.finfo(dtype).eps, atol=1e-4)


def test_a_second_derivative_is_refused(kernels) -> None:
    logits, tokens = batch(1, 20)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(kernels.token_scores(logits, tokens, 1.0)[0].sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient.sum().backward()


@pytest.mark.skipif(DEVICE == "cuda", reason="the model is on the CPU")
@pytest.mark.parametrize("tokens", [7, 10_000])
def test_scores_of_a_model_by_kernels_are_those_by_the_equations(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks that are made again for their gradient, too; with and without entropy the log-probs have equal bits."""
    monkeypatch.setattr(logprobs, "CHUNK", {"cpu": tokens * 48})
    found = []
    for fused in (logprobs.fused, lambda _: False):
        monkeypatch.setattr(logprobs, "fused", fused)
        model = random_model()
        scores = score(model, a_pack("packed"), 0.7, entropy=True, entropy_graph=True)
        assert torch.equal(scores.logprobs, score(model, a_pack("packed"), 0.7, entropy=False).logprobs)
        (scores.logprobs.sum() + scores.entropy.square().sum()).backward()
        found.append([scores.logprobs.detach(), scores.entropy.detach(), *(p.grad for p in model.parameters())])
    assert_close(*found, rtol=1e-4, atol=1e-5)
    without_graph = score(model, a_pack("packed"), 0.7, entropy=True)
    assert without_graph.entropy is not None and not without_graph.entropy.requires_grad


def test_a_trial_finds_kernels_right_and_one_that_is_not_wrong(kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    assert logprobs._kernels_are_right(torch.device(DEVICE))
    right = kernels.token_scores
    monkeypatch.setattr(kernels, "token_scores", lambda *a: (right(*a)[0] + 1e-2, right(*a)[1]))
    assert not logprobs._kernels_are_right(torch.device(DEVICE))


SIGNATURES = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from fipo.training.passes import logprob_kernels as k

for kernel in (k.forward_kernel, k.backward_kernel):
    for dtype in ("fp32", "bf16"):
        types = {"logits": f"*{dtype}", "gradient": f"*{dtype}", "tokens": "*i64", "words": "i32", "stride": "i32"}
        types["inverse"] = "fp32"
        constants = {"WITH_ENTROPY": True, "BLOCK": k.BLOCK}
        constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
        signature = {n: "constexpr" if n.isupper() else types.get(n, "*fp32") for n in kernel.arg_names}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        for capability in (80, 89, 90, 100):
            compiled = compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": k.WARPS})
            assert compiled.asm["cubin"]
            print(kernel.__name__, dtype, capability)
"""


@pytest.mark.slow
def test_the_kernels_compile_for_gpus_that_are_not_here(tmp_path) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", SIGNATURES], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stdout.splitlines()) == 16


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("words", [48, 151_936])
def test_on_cuda_the_kernels_are_chosen_and_right_and_give_the_same_bits_twice(words: int, dtype, kernels, monkeypatch):
    monkeypatch.undo()
    logits, tokens = batch(64, words)
    logits = logits.to(dtype)
    assert logprobs.fused(logits)
    run = partial(results, logprobs._kernel_scores, logits, tokens, 0.7)
    once, again = run(), run()
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    expected = results(equations, logits.double(), tokens, 0.7)
    assert_close(once[:2], expected[:2], rtol=1e-4, atol=1e-4)
    assert_close(once[2:], expected[2:], rtol=1e-2 if dtype == torch.bfloat16 else 1e-4, atol=1e-4)
