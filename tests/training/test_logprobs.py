import pytest
import torch
from tests.conftest import SHAPE, random_model
from tests.training.helpers import random_groups
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedModel

from fipo.training import logprobs
from fipo.training.logprobs import has_plain_head, score, token_logprobs
from fipo.training.packing import Pack, pack


def a_pack() -> Pack:
    groups = random_groups(3, 4)
    ((one,),) = pack(
        groups,
        torch.ones(3, 4),
        mini_batches=1,
        tokens_per_micro_batch=10_000,
        mask_truncated=True,
        device=torch.device("cpu"),
    )
    assert not bool(one.loss_mask.all())
    return one


def by_definition(model: PreTrainedModel, one: Pack, temperature: float) -> torch.Tensor:
    """From the logits of everything, with padding and all."""
    logits = model(input_ids=one.input_ids, use_cache=False).logits[:, :-1]
    everything = torch.log_softmax(logits / temperature, -1).gather(-1, one.input_ids[:, 1:, None])[:, :, 0]
    return everything[:, -one.loss_mask.shape[1] :] * one.loss_mask


@pytest.fixture(params=[1, 7, 10_000], ids=lambda tokens: f"{tokens} tokens a chunk")
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(logprobs, "CHUNK", request.param * 48)
    return request.param


@pytest.mark.usefixtures("chunk")
def test_values_and_gradients_are_those_of_the_definition_however_the_tokens_are_cut(
    any_model: PreTrainedModel,
) -> None:
    model, one = any_model.double(), a_pack()
    weights = torch.randn(one.loss_mask.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    results = []
    for function in (token_logprobs, by_definition):
        model.zero_grad()
        values = function(model, one, 0.7)
        (values * weights).sum().backward()
        results.append([values, *(p.grad for p in model.parameters() if p.grad is not None)])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)


@pytest.mark.usefixtures("chunk")
def test_old_and_new_logprobs_of_the_same_weights_are_the_same_bits(any_model: PreTrainedModel) -> None:
    one = a_pack()
    assert torch.equal(score(any_model, one, 0.9).old_logprobs, token_logprobs(any_model, one, 0.9))


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


def test_the_logits_of_all_tokens_never_exist_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    config = random_model().config
    config.vocab_size = 40_000
    model = type(random_model())(config)
    one = a_pack()
    assert has_plain_head(model)
    monkeypatch.setattr(logprobs, "CHUNK", 5 * 40_000)
    with Largest() as largest:
        score(model, one, 1.0)
        token_logprobs(model, one, 1.0).sum().backward()
    tokens = int(one.loss_mask.sum())
    weights = 40_000 * config.hidden_size
    assert largest.elements <= weights < tokens * 40_000


def test_a_model_that_caps_its_logits_is_scored_by_its_own_logits() -> None:
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=8, final_logit_softcapping=0.5)).eval()
    one = a_pack()
    assert not has_plain_head(model)
    torch.testing.assert_close(token_logprobs(model, one, 1.0), by_definition(model, one, 1.0), atol=1e-6, rtol=1e-5)
