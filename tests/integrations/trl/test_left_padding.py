"""TRL pads prompts on the left and gives no position_ids, so positions count the padding: does a bf16 model notice?"""

from importlib.resources import as_file, files

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel

PADDING = 64
ROW = torch.tensor([5, 9, 12, 7, 4, 11, 6, 8, 10, 13, 5, 7, 9, 4, 6, 12])


@torch.no_grad()
def logprobs(model: PreTrainedModel, padding: int) -> Tensor:
    """[T] of ROW[1:], behind so many tokens of padding, as TRL's forward pass has it."""
    row = torch.cat([ROW.new_zeros(padding), ROW])[None]
    mask = (torch.arange(row.shape[1]) >= padding).long()[None]
    scores = torch.log_softmax(model(input_ids=row, attention_mask=mask).logits[0, padding:-1].float(), dim=-1)
    return scores.gather(1, ROW[1:, None])[:, 0]


def embedded(dtype: torch.dtype) -> PreTrainedModel:
    with as_file(files("fipo.models").joinpath("tiny")) as folder:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def test_rotary_positions_behind_padding_cost_a_bf16_model_less_than_bf16_itself() -> None:
    half, exact = embedded(torch.bfloat16), embedded(torch.float32)
    padded = logprobs(half, PADDING) - logprobs(half, 0)
    rounded = logprobs(half, 0) - logprobs(exact, 0)
    assert float(padded.std()) < 2 * float(rounded.std())
    assert float(padded.abs().max()) < 0.2  # not the 3.6 nats that others have reported
    torch.testing.assert_close(logprobs(exact, PADDING), logprobs(exact, 0), rtol=0, atol=1e-4)


def test_learned_positions_do_notice() -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=48, n_positions=128, n_embd=32, n_layer=2, n_head=2, initializer_range=0.5)
    model = GPT2LMHeadModel(config).eval()
    assert float((logprobs(model, PADDING) - logprobs(model, 0)).abs().max()) > 0.1
