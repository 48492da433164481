"""The device of the GPU benchmarks, how things are timed there, and models of published shapes with random weights."""

import gc
import statistics
import time
from collections.abc import Callable

import torch
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SMALL = DEVICE.type == "cpu"  # everything runs, on sizes that say nothing of speed
HALF = torch.bfloat16
WORDS = 512 if SMALL else 151936


def synchronize() -> None:
    if not SMALL:
        torch.cuda.synchronize()


def free_memory() -> None:
    gc.collect()
    if not SMALL:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gib() -> float | None:
    return None if SMALL else torch.cuda.max_memory_allocated() / 2**30


def seconds(run: Callable[[], object]) -> float:
    synchronize()
    started = time.perf_counter()
    run()
    synchronize()
    return time.perf_counter() - started


def milliseconds(run: Callable[[], object], repeats: int = 20) -> float:
    """The median; on a GPU by its own events, without the time that launching takes where it is waited for anyway."""
    if SMALL:
        return 1e3 * seconds(run)
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def captured(run: Callable[[], object]) -> Callable[[], object]:
    """`run` as a CUDA graph, after the warm-up on another stream that capturing asks for."""
    if SMALL:
        return run
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def qwen2_05b() -> PreTrainedModel:
    """The shape of Qwen2-0.5B; of its heads and layers where it is small."""
    return _made(
        Qwen2ForCausalLM,
        Qwen2Config(
            vocab_size=WORDS,
            hidden_size=56 if SMALL else 896,
            intermediate_size=64 if SMALL else 4864,
            num_hidden_layers=2 if SMALL else 24,
            num_attention_heads=14,
            num_key_value_heads=2,
            max_position_embeddings=32768,
            tie_word_embeddings=True,
            eos_token_id=None,
            bos_token_id=None,
        ),
    )


def qwen3_06b() -> PreTrainedModel:
    """The shape of Qwen3-0.6B."""
    return _made(
        Qwen3ForCausalLM,
        Qwen3Config(
            vocab_size=WORDS,
            hidden_size=64 if SMALL else 1024,
            num_hidden_layers=2 if SMALL else 28,
            num_attention_heads=16,
            num_key_value_heads=8,
            head_dim=8 if SMALL else 128,
            intermediate_size=64 if SMALL else 3072,
            max_position_embeddings=65536,
            tie_word_embeddings=True,
        ),
    )


def _made(kind: type[PreTrainedModel], config: object) -> PreTrainedModel:
    torch.manual_seed(0)
    return kind(config).to(DEVICE, HALF).eval()
