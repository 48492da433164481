"""Attention of one new token per row over as many cached tokens as the row has, by Triton kernels.

torch's attention reads every row up to the longest one. Here a program has PART tokens of one row and one key-value
head, and ends at the row's own position:

    m = max q k    s = sum exp(q k - m)    o = sum exp(q k - m) v    over its tokens

and a second kernel joins a row's parts: sum e^(m_i - M) o_i / sum e^(m_i - M) s_i with M = max m_i. Parts are of the
same tokens whatever the other rows are, so a row's result depends on its own tokens alone. How long a row is, is read
on the device: a CUDA graph of both serves rows of any length.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
import torch
import triton
import triton.language as tl
from torch import Tensor

PART = 512  # tokens of a program
TILE = 2**14  # bytes of keys, and as many of values, that it looks at together
LEAST = 16  # rows and columns of a product on tensor cores
WARPS = 4
STAGES = 2  # tiles on their way at a time: shared memory for all head sizes, on consumer cards too


def attend_to_own(query: Tensor, key: Tensor, value: Tensor, positions: Tensor, scale: float) -> Tensor:
    """[B, H, Q, D] softmax(scale q k^T) v of query [B, H, Q, D] over the tokens 0 to positions [B] of its row.

    key and value [B, H, S, D], with D beside each other; positions are int64 and below S.
    """
    rows, heads, queries, size = query.shape
    query = query.contiguous()
    parts = triton.cdiv(key.shape[2], PART)
    mixed = torch.empty(rows * heads * parts, queries, size, dtype=torch.float32, device=query.device)
    sums = torch.empty(rows * heads * parts, 2, queries, dtype=torch.float32, device=query.device)
    out = torch.empty_like(query)
    sizes = {
        "QUERIES": queries,
        "SIZE": size,
        "M": max(LEAST, triton.next_power_of_2(queries)),
        "D": max(LEAST, triton.next_power_of_2(size)),
        "PART": PART,
    }
    with torch.cuda.device_of(query):
        part_kernel[(rows * heads, parts)](
            query, key, value, positions, mixed, sums, heads, *key.stride()[:3], *value.stride()[:3], scale,
            **sizes, BLOCK=tokens_of_a_tile(size, key.element_size()), num_warps=WARPS, num_stages=STAGES,
        )  # fmt: skip
        join_kernel[(rows * heads,)](mixed, sums, positions, out, heads, parts, **sizes, num_warps=WARPS)
    return out


def tokens_of_a_tile(size: int, width: int) -> int:
    """How many tokens of a head's `size` numbers of `width` bytes are looked at together."""
    return min(PART, max(LEAST, TILE // (triton.next_power_of_2(size) * width)))


@triton.jit
def part_kernel(
    query,  # [B, H, QUERIES, SIZE]
    key,
    value,
    positions,
    mixed,  # [B * H, parts, QUERIES, SIZE] out: o
    sums,  # [B * H, parts, 2, QUERIES] out: m and s
    heads,
    key_row,  # strides
    key_head,
    key_token,
    value_row,
    value_head,
    value_token,
    scale,
    QUERIES: tl.constexpr,
    SIZE: tl.constexpr,
    M: tl.constexpr,  # QUERIES and SIZE, or more, as products of blocks have them
    D: tl.constexpr,
    PART: tl.constexpr,
    BLOCK: tl.constexpr,
):
    program, part = tl.program_id(0), tl.program_id(1)
    row, head = (program // heads).to(tl.int64), program % heads
    length = tl.load(positions + row).to(tl.int32) + 1
    begin = part * PART
    if begin < length:
        end = tl.minimum(begin + PART, length)
        m, d = tl.arange(0, M), tl.arange(0, D)
        place = (program.to(tl.int64) * QUERIES + m[:, None]) * SIZE + d[None, :]
        there = (m < QUERIES)[:, None] & (d < SIZE)[None, :]
        q = tl.load(query + place, mask=there, other=0.0)
        keys = key + row * key_row + head * key_head
        values = value + row * value_row + head * value_head
        largest = tl.full([M], float("-inf"), tl.float32)
        total = tl.zeros([M], tl.float32)
        sum_of_values = tl.zeros([M, D], tl.float32)
        for start in range(begin, end, BLOCK):
            token = start + tl.arange(0, BLOCK)
            seen = (token < end)[:, None] & (d < SIZE)[None, :]
            k = tl.load(keys + token[:, None].to(tl.int64) * key_token + d[None, :], mask=seen, other=0.0)
            v = tl.load(values + token[:, None].to(tl.int64) * value_token + d[None, :], mask=seen, other=0.0)
            score = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
            score = tl.where((token < end)[None, :], score, float("-inf"))
            higher = tl.maximum(largest, tl.max(score, axis=1))
            kept = tl.exp(largest - higher)
            weight = tl.exp(score - higher[:, None])
            total = total * kept + tl.sum(weight, axis=1)
            part_of_values = tl.dot(weight.to(v.dtype), v, input_precision="ieee")
            sum_of_values = sum_of_values * kept[:, None] + part_of_values
            largest = higher
        at = program.to(tl.int64) * tl.num_programs(1) + part
        tl.store(sums + (at * 2) * QUERIES + m, largest, mask=m < QUERIES)
        tl.store(sums + (at * 2 + 1) * QUERIES + m, total, mask=m < QUERIES)
        tl.store(mixed + (at * QUERIES + m[:, None]) * SIZE + d[None, :], sum_of_values, mask=there)


@triton.jit
def join_kernel(
    mixed,
    sums,
    positions,
    out,  # [B, H, QUERIES, SIZE]
    heads,
    parts,
    QUERIES: tl.constexpr,
    SIZE: tl.constexpr,
    M: tl.constexpr,
    D: tl.constexpr,
    PART: tl.constexpr,
):
    program = tl.program_id(0)
    used = tl.load(positions + program // heads).to(tl.int32) // PART + 1
    m, d = tl.arange(0, M), tl.arange(0, D)
    there = (m < QUERIES)[:, None] & (d < SIZE)[None, :]
    largest = tl.full([M], float("-inf"), tl.float32)
    total = tl.zeros([M], tl.float32)
    sum_of_values = tl.zeros([M, D], tl.float32)
    for part in range(0, used):
        at = program.to(tl.int64) * parts + part
        own = tl.load(sums + (at * 2) * QUERIES + m, mask=m < QUERIES, other=0.0)
        own_total = tl.load(sums + (at * 2 + 1) * QUERIES + m, mask=m < QUERIES, other=1.0)
        values = tl.load(mixed + (at * QUERIES + m[:, None]) * SIZE + d[None, :], mask=there, other=0.0)
        higher = tl.maximum(largest, own)
        kept, share = tl.exp(largest - higher), tl.exp(own - higher)
        total = total * kept + own_total * share
        sum_of_values = sum_of_values * kept[:, None] + values * share[:, None]
        largest = higher
    place = (program.to(tl.int64) * QUERIES + m[:, None]) * SIZE + d[None, :]
    tl.store(out + place, (sum_of_values / total[:, None]).to(out.dtype.element_ty), mask=there)
