"""Do log-probs of left-padded rows without position_ids, as TRL scores them, differ from those of the bare row?

python bench/left_padding.py [--model PATH] [--dtype bfloat16] [--out FILE]

Responses that the model samples are scored without padding; behind padding, positions counted with the padding (TRL's
way); and behind padding with position_ids that leave it out. What the dtype itself does, against float32, stands beside
it. In nats a token, over the response.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fipo.data.made.signed_sums import signed_sums
from fipo.models.loading import load

PROMPTS, RESPONSE = 8, 128
PADDING = (1, 16, 128, 1024)  # tokens


@torch.no_grad()
def scores(model: Any, tokens: Tensor, padding: int, *, position_ids: bool) -> Tensor:
    """[T] log-probs in float32 of tokens[1:], behind so many tokens of padding."""
    length = len(tokens)
    row = torch.cat([tokens.new_zeros(padding), tokens])[None]
    mask = (torch.arange(padding + length) >= padding).long()[None]
    positions = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)} if position_ids else {}
    logits = model(input_ids=row, attention_mask=mask, **positions).logits[0, padding:-1].float()
    return torch.log_softmax(logits, dim=-1).gather(1, tokens[1:, None])[:, 0]


@torch.no_grad()
def sampled(model: Any, tokenizer: Any) -> list[tuple[Tensor, int]]:
    """Rows of prompt and response, and the length of the prompt."""
    torch.manual_seed(0)
    rows = []
    for problem in signed_sums("train", PROMPTS):
        prompt = tokenizer(problem.text, return_tensors="pt").input_ids
        end = model.generation_config.eos_token_id
        stops = [end] if isinstance(end, int) else end
        row = model.generate(
            prompt,
            do_sample=True,
            top_k=0,
            max_new_tokens=RESPONSE,
            suppress_tokens=stops,
        )
        rows.append((row[0], prompt.shape[1]))
    return rows


def compared(path: str, dtype: torch.dtype) -> list[dict[str, Any]]:
    exact, tokenizer = load(path)
    model, _ = load(path, dtype=dtype)
    rows = sampled(exact, tokenizer)
    bare = [scores(model, row, 0, position_ids=False)[start - 1 :] for row, start in rows]
    truth = [scores(exact, row, 0, position_ids=False)[start - 1 :] for row, start in rows]
    found: list[dict[str, Any]] = [
        {"compared": f"{dtype} with float32, no padding".replace("torch.", ""), **differences(bare, truth)}
    ]
    for padding in PADDING:
        for name, given in (("positions count the padding", False), ("position_ids", True)):
            padded = [scores(model, row, padding, position_ids=given)[start - 1 :] for row, start in rows]
            found.append({"compared": f"{padding} tokens of padding, {name}", **differences(padded, bare)})
    return found


def differences(some: list[Tensor], others: list[Tensor]) -> dict[str, float]:
    """Over the tokens of all rows."""
    every = torch.cat([a - b for a, b in zip(some, others, strict=True)])
    return {"sd": float(f"{every.std():.2g}"), "max": float(f"{every.abs().max():.2g}")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = compared(options.model, getattr(torch, options.dtype))
    for line in found:
        print(json.dumps(line))
    if options.out:
        options.out.write_text(json.dumps({"model": options.model, "found": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
