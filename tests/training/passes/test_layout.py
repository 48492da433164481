import pytest
import torch
from tests.conftest import SHAPE, random_model
from transformers import (
    FalconMambaConfig,
    FalconMambaForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    PreTrainedModel,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from fipo.models.attention import obstacle
from fipo.training.passes.layout import layout_of, trial
from fipo.training.passes.packed_attention import Geometry
from fipo.training.passes.segments import Segment


def test_models_with_plain_attention_are_trained_on_packed_sequences(any_model: PreTrainedModel) -> None:
    said: list[str] = []
    assert layout_of(any_model, said.append) == "packed"
    assert said == []


def test_a_mixture_of_experts_is_trained_on_packed_sequences() -> None:
    torch.manual_seed(0)
    config = Qwen3MoeConfig(**SHAPE, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
    assert obstacle(Qwen3MoeForCausalLM(config).eval(), trial) is None


def test_a_model_with_sliding_windows_is_trained_on_padded_sequences_with_one_line() -> None:
    said: list[str] = []
    model = Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=8)).eval()
    assert layout_of(model, said.append) == "padded"
    [line] = said
    assert line.startswith("note: Gemma2ForCausalLM is trained on padded sequences, which is slower: it has layers of")


def test_a_model_without_attention_is_trained_on_padded_sequences() -> None:
    config = FalconMambaConfig(vocab_size=48, hidden_size=16, num_hidden_layers=1, state_size=4)
    assert obstacle(FalconMambaForCausalLM(config).eval(), trial) is not None


def test_a_model_that_sees_across_sequences_is_found_out_by_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model()
    attention = type(model.model.layers[0].self_attn)
    forward = attention.forward

    def forgetful(self, *args, **kwargs):
        length = args[0].shape[1] if args else kwargs["hidden_states"].shape[1]
        kwargs["geometry"] = Geometry([Segment(length=length)], torch.device("cpu"))
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(attention, "forward", forgetful)
    assert "in a trial it was off by" in str(obstacle(model, trial))
