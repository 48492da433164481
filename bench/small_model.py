"""The model and prompts of the CPU benchmarks: a random Qwen3 of 0.92M parameters, as in published figures for TRL."""

import json
import random
import resource
import statistics
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

WORDS = 512
PROMPT_TOKENS = 128
RESPONSE_TOKENS = 256
GROUPS, GROUP_SIZE = 2, 8  # of a whole training step


def small_model(seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=WORDS,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=384,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=None,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config).float().eval()


def random_prompts(count: int, seed: int = 0) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(2, WORDS) for _ in range(PROMPT_TOKENS)] for _ in range(count)]


def print_side(seconds: Sequence[float], version: str) -> None:
    """What one side of step_vs_trl.py found, as a line of JSON; the first step is left out."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu_s": statistics.median(seconds[1:]), "peak_mib": peak, "version": version}))
