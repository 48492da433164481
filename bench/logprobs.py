"""Peak memory of the log-probs of one long response over a large vocabulary, forward and backward pass.

    python bench/logprobs.py [--tokens 20480] [--words 151936]

A random Qwen3 of one small layer, so that what is measured is the output layer's share: 64 hidden units, float32. The
logits of all tokens would take tokens x words x 4 bytes for each copy. Minutes on a CPU.
"""

import argparse
import resource
import time

import torch
from machine import add_save, machine, save
from transformers import Qwen3Config, Qwen3ForCausalLM

from fipo.training.passes.logprobs import CHUNK, score
from fipo.training.passes.packing import Pack
from fipo.training.passes.segments import Segment

MIB = 2**20


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one_response(tokens: int, words: int) -> Pack:
    ids = torch.randint(words, (1, tokens + 1), generator=torch.Generator().manual_seed(0))
    return Pack(
        input_ids=ids,
        segments=[Segment(length=tokens + 1)],
        lengths=[tokens + 1],
        loss_mask=torch.ones(1, tokens, dtype=torch.bool),
        tokens=ids[0, 1:],
        before=torch.arange(tokens),
        advantages=torch.ones(1),
        rollout_logprobs=torch.zeros(1, tokens),
        rollouts=[(0, 0)],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the memory of log-probs.")
    parser.add_argument("--tokens", type=int, default=20480)
    parser.add_argument("--words", type=int, default=151936)
    add_save(parser)
    options = parser.parse_args()
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=options.words,
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        intermediate_size=128,
        max_position_embeddings=options.tokens + 1,
        tie_word_embeddings=True,
    )
    model = Qwen3ForCausalLM(config).float().eval()
    score(model, one_response(64, options.words), 1.0, entropy=False).logprobs.sum().backward()
    before, started = peak_mib(), time.perf_counter()
    score(model, one_response(options.tokens, options.words), 1.0, entropy=True).logprobs.sum().backward()
    result = {
        "tokens": options.tokens,
        "words": options.words,
        "chunk_mib": CHUNK["cpu"] * 4 / MIB,
        "peak_above_model_mib": peak_mib() - before,
        "one_copy_of_all_logits_mib": options.tokens * options.words * 4 / MIB,
        "seconds": time.perf_counter() - started,
    }
    print(f"log-probs and entropy of one response, forward and backward pass\n{machine()}")
    for name, value in result.items():
        print(f"{name:>28} {value:>12,.0f}")
    save("logprobs", result, kept=options.save)


if __name__ == "__main__":
    main()
