"""Make a base model: `python -m fipo.models.make_tiny [embedded|long_sums|relay|relay_long] [--out FOLDER]`.

A Qwen2 of 0.8 million parameters, trained from scratch on `fipo.models.corpus`: lessons without mistakes, then
the habits that the base model is to have, and both once more. The base for long sums goes on from the embedded
one, with three such pairs, that for long relays from the one for short ones. Each round has an AdamW of its own
with linear warm-up and cosine decay to zero; the loss is on response tokens only. Nothing here looks at a reward.
"""

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    get_cosine_schedule_with_warmup,
)

from fipo.data.made.relay import ALPHABET as RELAY_ALPHABET
from fipo.models.corpus import (
    HABITS,
    LESSONS,
    LONG_HABITS,
    LONG_LESSONS,
    RELAY_HABITS,
    RELAY_LESSONS,
    RELAY_LONG_HABITS,
    RELAY_LONG_LESSONS,
    Corpus,
    RelayCorpus,
)
from fipo.models.loading import EMBEDDED, EMBEDDED_FOLDER, load
from fipo.models.tokenizer import make_tokenizer
from fipo.seeding import derive_seed

ROUNDS: dict[str, tuple[tuple[Corpus | RelayCorpus, int], ...]] = {  # corpus, steps
    "embedded": ((LESSONS, 900), (HABITS, 1300), (LESSONS, 500), (HABITS, 400)),
    "long_sums": 3 * ((LONG_LESSONS, 850), (LONG_HABITS, 500)),
    "relay": 2 * ((RELAY_LESSONS, 600), (RELAY_HABITS, 400)),
    "relay_long": 2 * ((RELAY_LONG_LESSONS, 600), (RELAY_LONG_HABITS, 400)),
}
PEAK_LEARNING_RATES = {"embedded": 4e-3, "long_sums": 3e-3, "relay": 4e-3, "relay_long": 3e-3}
FOLDERS = {
    "embedded": EMBEDDED_FOLDER,
    "long_sums": Path("models/long_sums"),
    "relay": Path("models/relay"),
    "relay_long": Path("models/relay_long"),
}
STARTS = {"long_sums": EMBEDDED, "relay_long": "models/relay"}  # of those that go on from another
TOKENS_PER_BATCH = {"embedded": 4096, "long_sums": 4096, "relay": 1024, "relay_long": 4096}
POOL = 4096  # examples sorted by length together, so that a batch holds little padding
WARMUP_STEPS = 100
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


def batches(
    corpus: Corpus | RelayCorpus, count: int, tokenizer: PreTrainedTokenizerBase, seed: int, *, tokens: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """`count` pairs (input_ids, labels) [B, T]: of similar lengths, padded on the right, in random order."""
    rng = random.Random(derive_seed(seed, "corpus", repr(corpus)))
    waiting: list[tuple[Tensor, Tensor]] = []
    for _ in range(count):
        if not waiting:
            waiting = _pool(corpus, rng, tokenizer, tokens)
        yield waiting.pop()


def _pool(
    corpus: Corpus | RelayCorpus, rng: random.Random, tokenizer: PreTrainedTokenizerBase, tokens: int
) -> list[tuple[Tensor, Tensor]]:
    rows = []
    for _ in range(POOL):
        example = corpus.draw(rng)
        response = [*tokenizer.encode(example.response), tokenizer.eos_token_id]
        rows.append((tokenizer.encode(example.prompt), response))
    rows.sort(key=lambda row: len(row[0]) + len(row[1]))
    result = []
    while rows:
        height = max(1, tokens // (len(rows[-1][0]) + len(rows[-1][1])))
        result.append(_collate(rows[-height:], tokenizer.pad_token_id))
        rows = rows[:-height]
    rng.shuffle(result)
    return result


def _collate(rows: list[tuple[list[int], list[int]]], pad_id: int) -> tuple[Tensor, Tensor]:
    width = max(len(prompt) + len(response) for prompt, response in rows)
    input_ids = torch.full((len(rows), width), pad_id)
    labels = torch.full((len(rows), width), IGNORED)
    for i, (prompt, response) in enumerate(rows):
        end = len(prompt) + len(response)
        input_ids[i, :end] = torch.tensor(prompt + response)
        labels[i, len(prompt) : end] = torch.tensor(response)
    return input_ids, labels


def pretrain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus | RelayCorpus,
    steps: int,
    *,
    peak_learning_rate: float,
    tokens: int,
    seed: int,
) -> None:
    """One round: `steps` optimizer steps on one corpus, each of at most `tokens` tokens with padding."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=peak_learning_rate, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98)
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, WARMUP_STEPS, steps)
    stream = track(batches(corpus, steps, tokenizer, seed, tokens=tokens), total=steps, description="pretraining")
    for step, (input_ids, labels) in enumerate(stream, start=1):
        logits = model(input_ids=input_ids, use_cache=False).logits
        total = cross_entropy(
            logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
        )
        loss = total / tokens  # not a mean: a batch of short responses must not count their tokens more
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}/{steps}  loss {loss.item():.4f}", flush=True)


def _start(base: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    tokenizer = make_tokenizer(RELAY_ALPHABET) if base == "relay" else make_tokenizer()
    return make_model(tokenizer), tokenizer


def make(base: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base model of that name, trained from its start: noise, or another one."""
    torch.manual_seed(SEED)
    model, tokenizer = load(STARTS[base]) if base in STARTS else _start(base)
    for i, (corpus, steps) in enumerate(ROUNDS[base]):
        pretrain(
            model,
            tokenizer,
            corpus,
            steps,
            peak_learning_rate=PEAK_LEARNING_RATES[base],
            tokens=TOKENS_PER_BATCH[base],
            seed=SEED + i // 2,
        )
    return model, tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", nargs="?", choices=list(ROUNDS), default="embedded")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    folder = arguments.out or FOLDERS[arguments.base]
    model, tokenizer = make(arguments.base)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"saved {model.num_parameters():,} parameters to {folder}")


if __name__ == "__main__":
    main()
