import pytest
from transformers import (
    BloomConfig,
    Gemma3Config,
    LlavaConfig,
    MptConfig,
    Phi3Config,
    Qwen2_5_VLConfig,
    Qwen2Config,
    Qwen3_5Config,
)

from fipo.models.limits import longest_of, positions_of, turning_points


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        (Qwen2Config(max_position_embeddings=512), 512),
        (MptConfig(max_seq_len=64), 64),
        (BloomConfig(), None),
        (Gemma3Config(), 131072),
        (LlavaConfig(), 2048),
        (Qwen2_5_VLConfig(), 32768),
        (Qwen3_5Config(), 32768),
    ],
    ids=lambda value: type(value).__name__,
)
def test_positions_are_found_wherever_the_config_keeps_those_of_its_text(config, positions: int | None) -> None:
    assert positions_of(config) == positions
    assert longest_of(config) == (positions or 4096)


def test_turning_points_are_the_lengths_at_which_a_config_says_that_something_changes() -> None:
    rope = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "rope_theta": 10000.0}
    config = Phi3Config(
        hidden_size=32,
        num_attention_heads=4,
        sliding_window=300,
        rope_parameters={**rope, "original_max_position_embeddings": 200},
        original_max_position_embeddings=200,
        max_position_embeddings=4000,
        pad_token_id=0,
    )
    assert turning_points(config, longest=4000) == [200, 300]
    assert turning_points(config, longest=300) == [200]
    assert turning_points(config, longest=100) == []
    assert 512 in turning_points(Gemma3Config(text_config={"sliding_window": 512}), longest=1000)
