import pytest
import torch
from tests.conftest import SHAPE, random_model
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, PreTrainedModel

from fipo.models.rotary import fix_rotary, fixed_rotary

CHANGES = {"original_max_position_embeddings": 48, "rope_theta": 10000.0, "factor": 4.0}
LONG = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.0, 4.0, 8.0, 16.0], **CHANGES}
DYNAMIC = {"rope_type": "dynamic", **CHANGES}
TEXT = torch.arange(200)[None] % 40 + 2


def model_with(rope: dict[str, object], positions: int = 48) -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(**{**SHAPE, "max_position_embeddings": positions}, rope_parameters={**rope})
    return AutoModelForCausalLM.from_config(config).eval()


@torch.no_grad()
def logits(model: PreTrainedModel, length: int) -> torch.Tensor:
    return model(input_ids=TEXT[:, :length]).logits[0]


@pytest.mark.parametrize("rope", [LONG, DYNAMIC], ids=["longrope", "dynamic"])
def test_a_fixed_embedding_gives_a_token_the_same_logits_whatever_the_length(rope: dict[str, object]) -> None:
    model = model_with(rope)
    assert not torch.allclose(logits(model, 20), logits(model, 200)[:20], atol=1e-5)
    model = model_with(rope)
    assert fix_rotary(model, 200)
    torch.testing.assert_close(logits(model, 200), logits(model_with(rope), 200))
    torch.testing.assert_close(logits(model, 20), logits(model, 200)[:20], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("rope", [LONG, DYNAMIC], ids=["longrope", "dynamic"])
def test_fixed_at_a_length_at_which_nothing_has_changed_yet_it_stays_what_it_was(rope: dict[str, object]) -> None:
    model = model_with(rope)
    before = logits(model, 20)
    assert not fix_rotary(model, 48)
    assert torch.equal(logits(model, 20), before)
    assert torch.equal(logits(model, 200)[:20], before) or torch.allclose(logits(model, 200)[:20], before, atol=1e-6)


def test_each_type_of_layer_has_an_embedding_of_its_own() -> None:
    rope = {"full_attention": {**LONG}, "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}
    config = Gemma3TextConfig(
        **SHAPE, head_dim=8, layer_types=["sliding_attention", "full_attention"], rope_parameters=rope
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    assert fix_rotary(model, 200)
    torch.testing.assert_close(logits(model, 20), logits(model, 200)[:20], atol=1e-6, rtol=1e-5)


def test_any_other_embedding_is_left_alone(any_model: PreTrainedModel) -> None:
    assert not fix_rotary(any_model, 200)
    assert fixed_rotary(any_model) == []


def test_what_it_was_fixed_at_is_told() -> None:
    model, other = model_with(LONG), model_with(LONG)
    fix_rotary(model, 200)
    fix_rotary(other, 40)
    assert fixed_rotary(model) != fixed_rotary(other)
    assert fixed_rotary(random_model()) == []
