"""The Triton kernels beside torch's attention over all columns: on a CUDA device, or interpreted where none is."""

import os
import subprocess
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from tests.conftest import random_model
from torch import Tensor

from fipo.rollout.engine import slots
from fipo.rollout.engine.slot_engine import SlotEngine
from fipo.rollout.engine.slots import visible
from fipo.rollout.sampler import SamplingParams

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PART, BLOCK = (128, 64) if DEVICE == "cuda" else (32, 16)


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch):
    """With short parts and blocks, so that short rows have many."""
    pytest.importorskip("triton")
    from fipo.rollout.engine import ragged_kernels

    monkeypatch.setattr(ragged_kernels, "PART", PART)
    monkeypatch.setattr(ragged_kernels, "tokens_of_a_tile", lambda *_: BLOCK)
    return ragged_kernels


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def batch(positions: list[int], heads: int, queries: int, size: int, length: int) -> tuple[Tensor, ...]:
    """(query, key, value, positions)"""
    key, value = numbers(2, len(positions), heads, length, size)
    query = numbers(len(positions), heads, queries, size, seed=1)
    return query, key, value, torch.tensor(positions, device=DEVICE)


def by_torch(query: Tensor, key: Tensor, value: Tensor, positions: Tensor, scale: float) -> Tensor:
    mask = visible(positions, key.shape[2], query.dtype)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)


@pytest.mark.parametrize(
    ("heads", "queries", "size"), [(2, 7, 64), (1, 1, 32), (3, 4, 16), (2, 2, 80), (1, 20, 128), (1, 1, 8)]
)
def test_rows_of_any_length_are_those_of_torch(heads: int, queries: int, size: int, kernels) -> None:
    length = 3 * PART + 5
    positions = [0, BLOCK - 1, BLOCK, PART - 1, PART, length - 1]
    inputs = batch(positions, heads, queries, size, length)
    torch.testing.assert_close(kernels.attend_to_own(*inputs, 0.2), by_torch(*inputs, 0.2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_near_to_the_exact_result_as_torchs(dtype: torch.dtype, kernels) -> None:
    if DEVICE == "cpu" and dtype == torch.bfloat16:
        pytest.skip("the interpreter multiplies the bits of bfloat16")
    *tensors, positions = batch([5, 2 * PART + 3], 2, 7, 64, 3 * PART)
    halves = [tensor.to(dtype) for tensor in tensors]
    exact = by_torch(*(tensor.double() for tensor in halves), positions, 0.125)
    ours = kernels.attend_to_own(*halves, positions, 0.125)
    assert ours.dtype == dtype
    assert (ours - exact).abs().max() < 4 * torch.finfo(dtype).eps


def test_what_stands_after_a_row_is_never_read(kernels) -> None:
    query, key, value, positions = batch([3, PART], 2, 3, 16, 2 * PART)
    plain = kernels.attend_to_own(query, key, value, positions, 0.2)
    for row, position in enumerate(positions.tolist()):
        key[row, :, position + 1 :] = torch.nan
        value[row, :, position + 1 :] = torch.nan
    assert torch.equal(kernels.attend_to_own(query, key, value, positions, 0.2), plain)


def test_a_row_depends_neither_on_the_others_nor_on_how_many_columns_there_are(kernels) -> None:
    query, key, value, positions = batch([PART + 2, 7, 3 * PART - 1], 2, 3, 16, 3 * PART)
    together = kernels.attend_to_own(query, key, value, positions, 0.2)
    for row, columns in ((0, PART + 3), (0, 2 * PART), (1, 8), (2, 3 * PART)):
        alone = [x[row : row + 1, :, :columns] for x in (key, value)]
        one = kernels.attend_to_own(query[row : row + 1], *alone, positions[row : row + 1], 0.2)
        assert torch.equal(one[0], together[row])


def test_the_slots_of_a_cache_are_read_where_they_stand(kernels) -> None:
    storage = numbers(4, 9, 2, 3 * PART, 16)  # layers and kinds, slots, heads, length, size
    query, positions = numbers(5, 2, 3, 16, seed=1), torch.tensor([0, 40, 20, 7, 1], device=DEVICE)
    key, value = storage[2, :5, :, :48], storage[3, :5, :, :48]
    torch.testing.assert_close(
        kernels.attend_to_own(query, key, value, positions, 0.2),
        by_torch(query, key, value, positions, 0.2),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.skipif(DEVICE == "cuda", reason="the model is on the CPU")
def test_an_engine_with_the_kernels_samples_the_same_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, params = [[5, 6, 7], [8], [9, 10, 11, 12, 13]], SamplingParams(temperature=0.7, max_tokens=10)
    plain = SlotEngine(random_model(), stop_tokens=(1, 7), slots=2).sample(prompts, params, seed=0)
    asked: list[int] = []
    monkeypatch.setattr(slots, "ragged", lambda query: asked.append(len(query)) or True)
    monkeypatch.setattr("fipo.rollout.engine.recorder.TRACED_WEIGHTS", 0)  # a trace is of torch's operations alone
    ours = SlotEngine(random_model(), stop_tokens=(1, 7), slots=2).sample(prompts, params, seed=0)
    assert asked
    for one, other in zip(ours, plain, strict=True):
        assert one.tokens == other.tokens
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


def test_a_trial_finds_kernels_right_and_one_that_is_not_wrong(kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    assert slots._kernels_are_right(torch.device(DEVICE))
    right = kernels.attend_to_own
    monkeypatch.setattr(kernels, "attend_to_own", lambda *a: right(*a[:3], a[3] // 2, a[4]))
    assert not slots._kernels_are_right(torch.device(DEVICE))


def test_where_a_trial_launch_fails_torchs_attention_is_used() -> None:
    if DEVICE == "cuda":
        pytest.skip("it does not fail here")
    slots.obstacle.cache_clear()
    try:
        assert slots.obstacle().startswith("a trial failed with ")
    finally:
        slots.obstacle.cache_clear()


SIGNATURES = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from fipo.rollout.engine import ragged_kernels as k

for kernel in (k.part_kernel, k.join_kernel):
    for dtype, queries, size in (("bf16", 7, 64), ("bf16", 2, 128), ("bf16", 2, 256), ("fp32", 2, 256)):
        halves = dict.fromkeys(("query", "key", "value", "out"), f"*{dtype}")
        types = halves | {"positions": "*i64", "mixed": "*fp32", "sums": "*fp32", "scale": "fp32"}
        block = k.tokens_of_a_tile(size, 4 if dtype == "fp32" else 2)
        constants = {"QUERIES": queries, "SIZE": size, "M": 16, "D": size, "PART": k.PART, "BLOCK": block}
        constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
        signature = {n: "constexpr" if n.isupper() else types.get(n, "i32") for n in kernel.arg_names}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        for capability in (80, 89, 90, 100):
            options = {"num_warps": k.WARPS, "num_stages": k.STAGES}
            compiled = compile(source, target=GPUTarget("cuda", capability, 32), options=options)
            assert compiled.asm["cubin"]
            assert compiled.metadata.shared <= 99 * 1024  # what a consumer card has
            print(kernel.__name__, dtype, size, capability, compiled.metadata.shared)
"""


@pytest.mark.slow
def test_the_kernels_compile_for_gpus_that_are_not_here(tmp_path) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", SIGNATURES], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stdout.splitlines()) == 32


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "queries", "size"), [(2, 7, 64), (8, 2, 128), (2, 2, 256)])
def test_on_cuda_the_kernels_are_chosen_and_right_and_a_graph_follows_the_lengths(
    heads: int, queries: int, size: int, dtype: torch.dtype, kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    *tensors, positions = batch([0, 511, 512, 1999], heads, queries, size, 2048)
    query, key, value = (tensor.to(dtype) for tensor in tensors)
    assert slots.ragged(query)
    run = partial(kernels.attend_to_own, query, key, value, positions, size**-0.5)
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run()
    for lengths in ([0, 511, 512, 1999], [2047, 3, 1024, 0]):
        positions.copy_(torch.tensor(lengths))
        graph.replay()
        exact = by_torch(query.double(), key.double(), value.double(), positions, size**-0.5)
        assert (out - exact).abs().max() < (0.02 if dtype == torch.bfloat16 else 1e-5)
