"""What several tests need: small random models, and a run that is over in seconds."""

import copy
import gc
import os
import signal
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is imported, which transformers may do

from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    Llama4TextConfig,
    LlamaConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

torch.set_num_threads(1)

SHAPE = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
ARCHITECTURES = {
    "qwen2": Qwen2Config(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE, head_dim=8),
    "llama": LlamaConfig(**SHAPE),
    "gemma": GemmaConfig(**SHAPE, head_dim=8),
}


def pytest_configure() -> None:
    """A shell starts background jobs with Ctrl-C ignored, and so would be what the tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What is there by now stays to the end: thousands of tests and all libraries are no work for each collection."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def random_model(architecture: str = "qwen2", seed: int = 0, scale: float = 8.0) -> PreTrainedModel:
    """A tiny random model whose distributions are far from uniform: its weights are scaled up."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(ARCHITECTURES[architecture])).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(scale)
    return model


def tuned_llama4() -> Llama4TextConfig:
    """Llama 4's layers without rotary embedding: they count the tokens before them in the row, whatever those are."""
    return Llama4TextConfig(
        **SHAPE, head_dim=8, num_local_experts=2, intermediate_size_mlp=64, floor_scale=16, no_rope_layers=[0, 0]
    )


@pytest.fixture(params=list(ARCHITECTURES))
def any_model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return random_model(request.param)


@pytest.fixture
def model() -> PreTrainedModel:
    return random_model()


@pytest.fixture
def repository() -> Path:
    return Path(__file__).parent.parent
