"""The Triton kernels of `fused`. Each program has one chunk of CHUNK tokens of one row.

The equations are those of `policy_loss`. Comparisons are written with tl.where, which hands a NaN on as torch does;
tl.minimum and tl.clamp would drop it.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
import torch
import triton
import triton.language as tl

from fipo.objective import config, events, metrics

MAX_LOG_RATIO = tl.constexpr(config.MAX_LOG_RATIO)
MAX_FUTURE_KL = tl.constexpr(events.max_future_kl(torch.float64))
TINY_RATIO = tl.constexpr(events.TINY_RATIO)
RATIO_BINS = tl.constexpr(metrics.RATIO_BINS)
RATIO_SCALE = tl.constexpr(metrics.RATIO_SCALE)
RATIO_WIDTH = tl.constexpr(metrics.RATIO_WIDTH)

# Where each count stands in `counts`.
TOKENS = tl.constexpr(events.COUNTS.index("tokens"))
CLIPPED_HIGH = tl.constexpr(events.COUNTS.index("policy/clip_fraction_high"))
CLIPPED_LOW = tl.constexpr(events.COUNTS.index("policy/clip_fraction_low"))
DUAL_CLIPPED = tl.constexpr(events.COUNTS.index("policy/dual_clip_fraction"))
TINY = tl.constexpr(events.COUNTS.index("policy/ratio_pos/share_tiny"))
FROM_2 = tl.constexpr(events.COUNTS.index("policy/ratio_neg/share_2_3"))
FROM_3 = tl.constexpr(events.COUNTS.index("policy/ratio_neg/share_3_4"))
FROM_4 = tl.constexpr(events.COUNTS.index("policy/ratio_neg/share_4_dual"))
SAFETY_CAPPED = tl.constexpr(events.COUNTS.index("fipo/safety_capped"))
ROUNDING = tl.constexpr(events.ROUNDING)
WEIGHT_HIGH = tl.constexpr(events.COUNTS.index("fipo/influence_weight/clipped_high"))
WEIGHT_LOW = tl.constexpr(events.COUNTS.index("fipo/influence_weight/clipped_low"))
UNMOVED_POSITIVE = tl.constexpr(events.COUNTS.index("unmoved_positive"))
UNMOVED_NEGATIVE = tl.constexpr(events.COUNTS.index("unmoved_negative"))


@triton.jit
def _clamp(x, low, high):
    return tl.where(x < low, low, tl.where(x > high, high, x))


@triton.jit
def _tokens(offset, length, chunks, CHUNK: tl.constexpr):
    """This program's row, its chunk, the places of its tokens in a contiguous [B, T], and which of them exist."""
    program = tl.program_id(0)
    row = program // chunks
    chunk = program % chunks
    column = chunk * CHUNK + offset
    return row, chunk, row.to(tl.int64) * length + column, column < length


@triton.jit
def _load(logprobs, old_logprobs, loss_mask, place, inside):
    """logprobs - old_logprobs, 0 off the mask, and the mask."""
    mask = tl.load(loss_mask + place, mask=inside, other=0) != 0
    new = tl.load(logprobs + place, mask=inside, other=0.0)
    old = tl.load(old_logprobs + place, mask=inside, other=0.0)
    return tl.where(mask, new - old, 0.0), mask


@triton.jit
def _participating(log_ratio, log_dual_clip):
    return tl.where(log_ratio <= log_dual_clip, log_ratio, 0.0)


@triton.jit(do_not_specialize=["chunks"])
def chunk_kernel(
    logprobs, old_logprobs, loss_mask, chunk_kl, length, chunks, decay_rate, log_dual_clip, CHUNK: tl.constexpr
):
    """Each chunk's own future KL at its first token: sum of gamma^i x_i over the chunk."""
    offset = tl.arange(0, CHUNK)
    _, _, place, inside = _tokens(offset, length, chunks, CHUNK)
    difference, _ = _load(logprobs, old_logprobs, loss_mask, place, inside)
    moved = _participating(_clamp(difference, -MAX_LOG_RATIO, MAX_LOG_RATIO), log_dual_clip)
    decay = tl.exp2(-decay_rate * offset.to(tl.float32))
    tl.store(chunk_kl + tl.program_id(0), tl.sum(moved * decay))


@triton.jit
def _later(chunk_kl, row, chunk, chunks, decay_rate, CHUNK: tl.constexpr, CHUNKS: tl.constexpr):
    """The future KL at the first token after this chunk."""
    other = tl.arange(0, CHUNKS)
    behind = (other > chunk) & (other < chunks)
    sums = tl.load(chunk_kl + row.to(tl.int64) * chunks + other, mask=behind, other=0.0)
    distance = tl.where(behind, (other - chunk - 1) * CHUNK, 0).to(tl.float32)
    return tl.sum(sums * tl.exp2(-decay_rate * distance))


@triton.jit
def _join(decay, value, next_decay, next_value):
    return decay * next_decay, value * next_decay + next_value


@triton.jit
def _future_kl(moved, later, decay_rate, CHUNK: tl.constexpr):
    """F_t = x_t + gamma F_(t+1) along the chunk, whose last token comes first."""
    gamma = tl.full([CHUNK], 1.0, tl.float32) * tl.exp2(-decay_rate)
    _, own = tl.associative_scan((gamma, moved), 0, _join)
    to_next_chunk = (tl.arange(0, CHUNK) + 1).to(tl.float32)
    return own + later * tl.exp2(-decay_rate * to_next_chunk)


@triton.jit
def _token_loss(ratio, weighted, ratio_low, ratio_high, dual_clip):
    """l, d l / d log r, and whether the dual clip stopped the token. Equal arguments of max and min share the
    gradient, as in torch."""
    inside = (ratio >= ratio_low) & (ratio <= ratio_high)
    l1 = -weighted * ratio
    l2 = -weighted * _clamp(ratio, ratio_low, ratio_high)
    clipped = tl.where(l1 < l2, l2, l1)
    through = tl.where(l1 == l2, tl.where(inside, 1.0, 0.5), tl.where(l1 > l2, 1.0, 0.0))
    cap = tl.where(weighted < 0, -weighted * dual_clip, float("inf"))
    through *= tl.where(clipped < cap, 1.0, tl.where(clipped == cap, 0.5, 0.0))
    stopped = clipped > cap
    return tl.where(stopped, cap, clipped), through * l1, stopped


@triton.jit
def _ratio_bin(log_ratio):
    """metrics.ratio_bins: asinh by its series near 0, where the logarithm would lose the sign."""
    y = tl.where(log_ratio == log_ratio, log_ratio, 0.0) * (1.0 / RATIO_SCALE)
    size = tl.abs(y)
    far = tl.log(size + tl.sqrt(size * size + 1.0))
    asinh = tl.where(size < 0.03, y - y * y * y * (1.0 / 6.0), tl.where(y < 0, -far, far))
    index = tl.floor(asinh * (1.0 / RATIO_WIDTH)).to(tl.int32) + RATIO_BINS // 2
    return tl.where(index < 0, 0, tl.where(index > RATIO_BINS - 1, RATIO_BINS - 1, index))


@triton.jit
def _count(
    to, step, a, A: tl.constexpr, b, B: tl.constexpr, c, C: tl.constexpr, d, D: tl.constexpr
):  # fmt: skip
    """How many tokens have each of four events: four sums in one, 16 bits each. A to D: where each count stands."""
    one = tl.sum(a.to(tl.int64) + (b.to(tl.int64) << 16) + (c.to(tl.int64) << 32) + (d.to(tl.int64) << 48))
    tl.store(to + A * step, one & 0xFFFF)
    tl.store(to + B * step, (one >> 16) & 0xFFFF)
    tl.store(to + C * step, (one >> 32) & 0xFFFF)
    tl.store(to + D * step, (one >> 48) & 0xFFFF)


@triton.jit
def _extremes(to, step, x, mask):
    tl.store(to, tl.min(tl.where(mask, x, float("inf"))))
    tl.store(to + step, tl.max(tl.where(mask, x, float("-inf"))))


@triton.jit
def _spread(to, step, x, mask, tokens):
    """The chunk's part of a `types.Spread`: total, sum of (x - the chunk's mean)^2, extremes."""
    total = tl.sum(tl.where(mask, x, 0.0))
    deviation = tl.where(mask, x - total / tl.where(tokens > 0, tokens, 1), 0.0)
    tl.store(to, total)
    tl.store(to + step, tl.sum(deviation * deviation))
    _extremes(to + 2 * step, step, x, mask)


@triton.jit(do_not_specialize=["chunks"])
def token_kernel(
    logprobs,
    old_logprobs,
    loss_mask,
    advantages,  # [B, T] if PER_TOKEN, else [B]
    chunk_kl,  # [B, chunks] of chunk_kernel
    gradient,  # [B, T] out: d l / d logprobs
    counts,  # [len(events.COUNTS), programs] int32 out
    values,  # [fused.VALUES, programs] float64 out
    histogram,  # [COPIES, 2, RATIO_BINS] int32, added to: A > 0, A < 0, without the log-ratios that are 0
    length,
    chunks,
    decay_rate,  # log2(1 / gamma)
    log_dual_clip,
    dual_clip,
    weight_low,
    weight_high,
    log_safety_threshold,
    safety_floor,
    ratio_low,
    ratio_high,
    PER_TOKEN: tl.constexpr,
    CHUNK: tl.constexpr,
    CHUNKS: tl.constexpr,  # a power of two >= chunks
    COPIES: tl.constexpr,
):
    """The loss of one chunk by the equations of `policy_loss`, its gradient, and the chunk's part of every sum."""
    from_the_end = CHUNK - 1 - tl.arange(0, CHUNK)  # triton-lang/triton#4362: scans with reverse=True were wrong
    row, chunk, place, inside = _tokens(from_the_end, length, chunks, CHUNK)
    difference, mask = _load(logprobs, old_logprobs, loss_mask, place, inside)
    log_ratio = _clamp(difference, -MAX_LOG_RATIO, MAX_LOG_RATIO)
    if PER_TOKEN:  # noqa: SIM108 - a branch of the compiler
        advantage = tl.load(advantages + place, mask=inside, other=0.0)
    else:
        advantage = tl.load(advantages + row)
    advantage = tl.where(mask, advantage, 0.0)
    positive, negative = advantage > 0, advantage < 0

    later = _later(chunk_kl, row, chunk, chunks, decay_rate, CHUNK, CHUNKS)
    future_kl = _future_kl(_participating(log_ratio, log_dual_clip), later, decay_rate, CHUNK)
    unsafe = negative & (log_ratio > log_safety_threshold)
    bounded = _clamp(tl.exp(future_kl), weight_low, weight_high)
    capped = unsafe & ((bounded > 1) | (bounded < safety_floor))
    f = tl.where(unsafe, _clamp(bounded, safety_floor, 1.0), bounded)

    ratio = tl.exp(log_ratio)
    weighted = advantage * f
    loss, slope, stopped = _token_loss(ratio, weighted, ratio_low, ratio_high, dual_clip)
    moves = mask & (difference >= -MAX_LOG_RATIO) & (difference <= MAX_LOG_RATIO)
    tl.store(gradient + place, tl.where(moves, slope, 0.0), mask=inside)

    raw = tl.exp(_clamp(future_kl.to(tl.float64), -MAX_FUTURE_KL, MAX_FUTURE_KL))
    program, step = tl.program_id(0), tl.num_programs(0)
    count, tokens = counts + program, tl.sum(mask.to(tl.int32))
    tl.store(count + TOKENS * step, tokens)
    high, low = (weighted > 0) & (ratio > ratio_high), (weighted < 0) & (ratio < ratio_low)
    tiny = positive & (ratio < TINY_RATIO)
    _count(count, step, high, CLIPPED_HIGH, low, CLIPPED_LOW, stopped, DUAL_CLIPPED, tiny, TINY)
    from_2 = negative & (ratio > 2) & (ratio <= 3)
    from_3 = negative & (ratio > 3) & (ratio <= 4)
    from_4 = negative & (ratio > 4) & (ratio <= dual_clip)
    _count(count, step, from_2, FROM_2, from_3, FROM_3, from_4, FROM_4, capped, SAFETY_CAPPED)
    free, still = mask & (capped == 0), log_ratio == 0
    above, below = free & (raw > weight_high + ROUNDING), free & (raw < weight_low - ROUNDING)
    still_up, still_down = positive & still, negative & still
    _count(
        count, step, above, WEIGHT_HIGH, below, WEIGHT_LOW, still_up, UNMOVED_POSITIVE, still_down, UNMOVED_NEGATIVE
    )  # fmt: skip

    value = values + program
    tl.store(value, tl.sum(tl.where(mask, loss, 0.0).to(tl.float64)))
    tl.store(value + step, tl.sum(log_ratio.to(tl.float64)))
    _spread(value + 2 * step, step, f.to(tl.float64), mask, tokens)
    _spread(value + 6 * step, step, raw, mask, tokens)
    _extremes(value + 10 * step, step, log_ratio, positive)
    _extremes(value + 12 * step, step, log_ratio, negative)

    # One address takes one addition at a time: hence the copies, and on policy, where all are 0, the counts above.
    copy = (program % COPIES) * (2 * RATIO_BINS)
    bin_of = copy + tl.where(negative, RATIO_BINS, 0) + _ratio_bin(log_ratio)
    tl.atomic_add(histogram + bin_of, 1, mask=(positive | negative) & (still == 0), sem="relaxed")


@triton.jit(do_not_specialize=["chunks"])
def scale_kernel(gradient, row_scale, scaled, length, chunks, CHUNK: tl.constexpr):
    """gradient times its row's scale; 0 times anything is 0 here, so that a NaN stays where it counts."""
    row, _, place, inside = _tokens(tl.arange(0, CHUNK), length, chunks, CHUNK)
    slope, scale = tl.load(gradient + place, mask=inside, other=0.0), tl.load(row_scale + row)
    product = tl.where(slope == 0, 0.0, slope * scale)
    tl.store(scaled + place, tl.where(scale == 0, 0.0, product), mask=inside)
