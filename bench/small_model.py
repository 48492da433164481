"""The model and prompts of the CPU benchmarks: a random Qwen3 of 0.92M parameters, as in published figures for TRL."""

import random

import torch
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

WORDS = 512
PROMPT_TOKENS = 128
RESPONSE_TOKENS = 256


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
