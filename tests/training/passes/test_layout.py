import pytest
import torch
from tests.conftest import SHAPE, random_model, tuned_llama4
from transformers import (
    AutoModelForCausalLM,
    FalconMambaConfig,
    FalconMambaForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from fipo.errors import UserError
from fipo.training.passes.layout import layout_of
from fipo.training.passes.packed_attention import Geometry
from fipo.training.passes.segments import Segment


def layout_and_notes(model: PreTrainedModel, longest: int | None = None) -> tuple[str, list[str]]:
    said: list[str] = []
    return layout_of(model, said.append, longest), said


def test_models_with_plain_attention_are_trained_on_packed_sequences(any_model: PreTrainedModel) -> None:
    assert layout_and_notes(any_model) == ("packed", [])


def test_a_mixture_of_experts_is_trained_on_packed_sequences() -> None:
    torch.manual_seed(0)
    config = Qwen3MoeConfig(**SHAPE, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
    assert layout_and_notes(Qwen3MoeForCausalLM(config).eval()) == ("packed", [])


def test_a_model_with_sliding_windows_is_trained_on_padded_sequences_with_one_line() -> None:
    layout, [line] = layout_and_notes(Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=8)).eval())
    assert layout == "padded"
    assert line.startswith("note: Gemma2ForCausalLM is trained on padded sequences, which is slower: it has layers of")


def test_attention_that_is_scaled_by_the_place_in_the_row_is_trained_on_padded_sequences() -> None:
    torch.manual_seed(0)
    layout, [line] = layout_and_notes(AutoModelForCausalLM.from_config(tuned_llama4()).eval())
    assert layout == "padded"
    assert line.endswith("which is slower: it scales its attention by a token's place in the row")


def test_a_model_without_attention_is_trained_on_padded_sequences() -> None:
    config = FalconMambaConfig(vocab_size=48, hidden_size=16, num_hidden_layers=1, state_size=4)
    assert layout_and_notes(FalconMambaForCausalLM(config).eval())[0] == "padded"


def test_a_model_that_sees_across_sequences_is_found_out_by_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model()
    attention = type(model.model.layers[0].self_attn)
    forward = attention.forward

    def forgetful(self, *args, **kwargs):
        length = args[0].shape[1] if args else kwargs["hidden_states"].shape[1]
        if "geometry" in kwargs:
            kwargs["geometry"] = Geometry([Segment(length=length)], torch.device("cpu"))
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(attention, "forward", forgetful)
    layout, [line] = layout_and_notes(model)
    assert layout == "padded"
    assert "in a trial with" in line


class WithoutCausality(Qwen2ForCausalLM):
    """Each token sees the mean of its row."""

    def get_decoder(self):
        return self

    def forward(self, input_ids=None, **settings):
        out = super().forward(input_ids=input_ids, **settings)
        out.logits = out.logits + out.logits.mean(1, keepdim=True)
        return out


def test_a_model_whose_log_probs_depend_on_what_comes_later_is_refused_in_one_line() -> None:
    torch.manual_seed(0)
    model = WithoutCausality(Qwen2Config(**SHAPE)).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(8.0)
    with pytest.raises(UserError, match=r"^model.path: WithoutCausality cannot be trained: on padded sequences, in a"):
        layout_of(model, print)


def test_a_rotary_embedding_that_changes_with_the_length_is_found_out_where_it_is_not_fixed() -> None:
    rope = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.0, 4.0, 8.0, 16.0]}
    rope |= {"original_max_position_embeddings": 48, "rope_theta": 10000.0, "factor": 8.0}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, rope_parameters=rope)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0 if parameter.dim() > 1 else 1.0)
    assert layout_and_notes(model, longest=48) == ("packed", [])
    with pytest.raises(UserError, match="cannot be trained: on padded sequences, in a trial with"):
        layout_of(model, print, longest=200)
