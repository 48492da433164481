from dataclasses import replace

import pytest
import torch
from tests.conftest import SHAPE, random_model
from tests.training.helpers import random_groups
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedModel

from fipo.training.passes import logprobs
from fipo.training.passes.logprobs import has_plain_head, old_scores, score
from fipo.training.passes.packing import Layout, Pack, pack

GROUPS = random_groups(3, 4, longest=9)


def a_pack(layout: Layout = "padded") -> Pack:
    ((one,),) = pack(
        GROUPS,
        torch.ones(3, 4),
        mini_batches=1,
        tokens_per_micro_batch=10_000,
        mask_truncated=True,
        layout=layout,
        device=torch.device("cpu"),
    )
    assert not bool(one.loss_mask.any(1).all())
    return one


def logprobs_of(model: PreTrainedModel, one: Pack, temperature: float) -> torch.Tensor:
    return score(model, one, temperature, entropy=False).logprobs


def by_definition(model: PreTrainedModel, one: Pack, temperature: float) -> torch.Tensor:
    """Each sequence alone, from the logits of all of its tokens."""
    values = torch.zeros(one.loss_mask.shape, dtype=model.dtype)
    for i, (g, m) in enumerate(one.rollouts):
        prompt, response = GROUPS[g].prompt_tokens, GROUPS[g].responses[m].tokens
        sequence = torch.tensor(prompt + response)
        logits = model(input_ids=sequence[None], use_cache=False).logits[0] / temperature
        every = torch.log_softmax(logits[:-1], -1).gather(-1, sequence[1:, None])[:, 0]
        values[i, : len(response)] = every[len(prompt) - 1 :]
    return values * one.loss_mask


@pytest.fixture(params=["padded", "packed"])
def layout(request: pytest.FixtureRequest) -> Layout:
    return request.param


@pytest.fixture(params=[1, 7, 10_000], ids=lambda tokens: f"{tokens} tokens a chunk")
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(logprobs, "CHUNK", {"cpu": request.param * 48})
    return request.param


@pytest.mark.usefixtures("chunk")
def test_values_and_gradients_are_those_of_the_definition_however_the_tokens_are_cut(
    any_model: PreTrainedModel, layout: Layout
) -> None:
    model, one = any_model.double(), a_pack(layout)
    weights = torch.randn(one.loss_mask.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    results = []
    for function in (logprobs_of, by_definition):
        model.zero_grad()
        values = function(model, one, 0.7)
        (values * weights).sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        results.append({"values": values, **gradients})
    for name, ours in results[0].items():
        # transformers' Gemma adds up the gradients of its norms in float32, also in a float64 model
        close = 1e-5 if model.config.model_type == "gemma" and "norm" in name else 1e-10
        torch.testing.assert_close(ours, results[1][name], atol=close, rtol=close)


@pytest.mark.usefixtures("chunk")
def test_old_and_new_logprobs_of_the_same_weights_are_the_same_bits(any_model: PreTrainedModel, layout: Layout) -> None:
    one = a_pack(layout)
    [old] = old_scores(any_model, [one], 0.9, beat=lambda: None)
    assert not old.logprobs.requires_grad
    assert torch.equal(old.logprobs, logprobs_of(any_model, one, 0.9))


def test_entropy_is_that_of_the_sampling_distribution(any_model: PreTrainedModel, layout: Layout) -> None:
    one = a_pack(layout)
    entropy = score(any_model, one, 0.5, entropy=True).entropy
    assert entropy is not None and not entropy.requires_grad
    expected = torch.zeros(one.loss_mask.shape)
    for words in range(48):  # the sum over all words of -p log p, each word put in the place of every token
        logprob = logprobs_of(any_model, replace(one, tokens=torch.full_like(one.tokens, words)), 0.5).detach()
        expected -= logprob.exp() * logprob
    torch.testing.assert_close(entropy, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("chunk")
def test_the_gradient_of_the_entropy_is_that_of_its_definition_however_the_tokens_are_cut(layout: Layout) -> None:
    """-sum p log p over the whole vocabulary, by torch's own graph."""
    model, one = random_model().double(), a_pack(layout)
    weights = torch.randn(len(one.tokens), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    results = []
    for whole in (False, True):
        model.zero_grad()
        if whole:
            last = torch.cat([last for last, _ in logprobs._chunks(model, one)])
            logprob = (model.get_output_embeddings()(last) / 0.7).log_softmax(-1)
            entropy = -(logprob.exp() * logprob).sum(-1)
        else:
            entropy = score(model, one, 0.7, entropy=True, entropy_graph=True).entropy[one.loss_mask]
        (entropy * weights).sum().backward()
        results.append([entropy.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)


def test_a_graph_of_the_entropy_changes_no_bit_of_the_scores(layout: Layout) -> None:
    model, one = random_model(), a_pack(layout)
    plain, with_graph = score(model, one, 0.9, entropy=True), score(model, one, 0.9, entropy=True, entropy_graph=True)
    assert torch.equal(plain.logprobs, with_graph.logprobs)
    assert torch.equal(plain.entropy, with_graph.entropy)
    assert with_graph.entropy.requires_grad and not with_graph.detached().entropy.requires_grad


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
    monkeypatch.setattr(logprobs, "CHUNK", {"cpu": 5 * 40_000})
    with Largest() as largest:
        old_scores(model, [one], 1.0, beat=lambda: None)
        logprobs_of(model, one, 1.0).sum().backward()
    tokens = int(one.loss_mask.sum())
    weights = 40_000 * config.hidden_size
    assert largest.elements <= weights < tokens * 40_000


def test_a_model_that_caps_its_logits_is_scored_by_its_own_logits() -> None:
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=8, final_logit_softcapping=0.5)).eval()
    one = a_pack()
    assert not has_plain_head(model)
    torch.testing.assert_close(logprobs_of(model, one, 1.0), by_definition(model, one, 1.0), atol=1e-6, rtol=1e-5)


class Operations(TorchDispatchMode):
    """Remembers the names of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def test_a_chunk_that_is_made_again_for_its_gradient_computes_no_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logprobs, "CHUNK", {"cpu": 7 * 48})
    model, one = random_model(), a_pack()
    scores = score(model, one, 0.7, entropy=True)
    with Operations() as again:
        scores.logprobs.sum().backward()
    assert "logsumexp" in again.names
    assert "linalg_vecdot" not in again.names and "_softmax" not in again.names
