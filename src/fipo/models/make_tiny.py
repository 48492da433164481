"""Make the embedded base model: `python -m fipo.models.make_tiny [--out FOLDER]`.

A Qwen2 of about one million parameters, trained from scratch on `fipo.models.corpus` with AdamW, linear
warm-up and a cosine decay to zero, on response tokens only. Nothing here looks at a reward.
"""

import argparse
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, get_cosine_schedule_with_warmup

from fipo.models.corpus import draw_example
from fipo.models.tokenizer import make_tokenizer
from fipo.seeding import derive_seed

STEPS = 4500
TOKENS_PER_BATCH = 4096
POOL = 4096  # examples sorted by length together, so that a batch holds little padding
PEAK_LEARNING_RATE = 2e-3
WARMUP_STEPS = 200
WEIGHT_DECAY = 0.05
SEED = 0
IGNORED = -100


def make_model(tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    return Qwen2ForCausalLM(config)


def batches(tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (input_ids, labels) [B, T]: of similar lengths, padded on the right, in random order."""
    rng = random.Random(derive_seed(SEED, "corpus"))
    while True:
        encoded = []
        for _ in range(POOL):
            example = draw_example(rng)
            prompt = tokenizer.encode(example.prompt)
            encoded.append((prompt, [*tokenizer.encode(example.response), tokenizer.eos_token_id]))
        encoded.sort(key=lambda pair: len(pair[0]) + len(pair[1]))
        cuts, longest_first = [], encoded[::-1]
        while longest_first:
            rows = max(1, TOKENS_PER_BATCH // (len(longest_first[0][0]) + len(longest_first[0][1])))
            cuts.append(longest_first[:rows])
            longest_first = longest_first[rows:]
        rng.shuffle(cuts)
        for rows_ in cuts:
            yield _collate(rows_, tokenizer.pad_token_id)


def _collate(rows: list[tuple[list[int], list[int]]], pad_id: int) -> tuple[Tensor, Tensor]:
    width = max(len(prompt) + len(response) for prompt, response in rows)
    input_ids = torch.full((len(rows), width), pad_id)
    labels = torch.full((len(rows), width), IGNORED)
    for i, (prompt, response) in enumerate(rows):
        end = len(prompt) + len(response)
        input_ids[i, :end] = torch.tensor(prompt + response)
        labels[i, len(prompt) : end] = torch.tensor(response)
    return input_ids, labels


def pretrain(steps: int = STEPS) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    torch.manual_seed(SEED)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98)
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, WARMUP_STEPS, steps)
    stream = itertools.islice(batches(tokenizer), steps)
    for step, (input_ids, labels) in enumerate(track(stream, total=steps, description="pretraining")):
        logits = model(input_ids=input_ids, use_cache=False).logits
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}  loss {loss.item():.4f}", flush=True)
    return model, tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "tiny")
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    model, tokenizer = pretrain(arguments.steps)
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    print(f"saved {sum(p.numel() for p in model.parameters()):,} parameters to {arguments.out}")


if __name__ == "__main__":
    main()
