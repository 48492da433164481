from pathlib import Path

import pytest
import torch
from tests.conftest import random_model
from torch import nn

from fipo.errors import UserError
from fipo.models import precision
from fipo.models.head import WideHead
from fipo.models.loading import device_of, dtype_of
from fipo.models.precision import load_as, multiply_in
from fipo.models.table import ModelTable
from fipo.models.tokenizer import make_tokenizer

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("table", "dtype", "wide"),
    [
        ({}, torch.float32, False),
        ({"dtype": "bfloat16"}, torch.bfloat16, True),
        ({"dtype": "float16"}, torch.float16, True),
        ({"dtype": "float16", "head_dtype": "model"}, torch.float16, False),
        ({"dtype": "bfloat16", "head_dtype": "float32"}, torch.bfloat16, True),
        ({"head_dtype": "float32"}, torch.float32, False),
    ],
)
def test_a_model_computes_as_its_table_says(table: dict[str, str], dtype: torch.dtype, wide: bool) -> None:
    model, _ = load_as(ModelTable(path="embedded", **table), CPU)
    assert model.dtype == dtype
    assert isinstance(model.get_output_embeddings(), WideHead) == wide


def test_auto_is_float16_on_cuda_and_float32_elsewhere() -> None:
    assert dtype_of("auto", torch.device("cuda")) == torch.float16
    assert dtype_of("auto", CPU) == torch.float32


def test_tf32_is_of_float32_models() -> None:
    assert ModelTable(path="embedded", dtype="float32", matmul="tf32").matmul == "tf32"
    for dtype in ("auto", "bfloat16", "float16"):
        with pytest.raises(ValueError, match=f"needs model.dtype = \"float32\", got '{dtype}'"):
            ModelTable(path="embedded", dtype=dtype, matmul="tf32")


def test_products_on_cuda_are_as_the_last_table_said_and_sums_are_never_rounded_half_way() -> None:
    cuda = torch.backends.cuda.matmul
    try:
        multiply_in("tf32")
        assert cuda.allow_tf32
        assert not cuda.allow_bf16_reduced_precision_reduction
        assert not cuda.allow_fp16_reduced_precision_reduction
    finally:
        multiply_in("float32")
    assert not cuda.allow_tf32


def test_a_weight_beyond_float16_is_named(tmp_path: Path) -> None:
    model = random_model()
    with torch.no_grad():
        model.get_parameter("model.layers.1.mlp.up_proj.weight")[0, 0] = 7e4
    model.save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError) as error:
        load_as(ModelTable(path=str(tmp_path), dtype="float16"), CPU)
    assert str(error.value) == (
        f'model.dtype: "float16" ends at 65504, and model.layers.1.mlp.up_proj.weight of {tmp_path} is beyond it: '
        'use "bfloat16"'
    )


def test_a_float32_head_of_another_kind_is_refused_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model().bfloat16()
    model.set_output_embeddings(nn.Sequential(model.get_output_embeddings()))
    monkeypatch.setattr(precision, "load", lambda *_: (model, None))
    load_as(ModelTable(path="odd", dtype="bfloat16"), CPU)
    with pytest.raises(UserError, match="needs a plain linear output layer"):
        load_as(ModelTable(path="odd", dtype="bfloat16", head_dtype="float32"), CPU)


def test_bfloat16_needs_a_gpu_that_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    assert dtype_of("bfloat16", cuda) == torch.bfloat16  # of a GPU that is not here nothing is known
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, fits in (((7, 5), False), ((8, 0), True), ((12, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        assert dtype_of("float16", cuda) == torch.float16
        if fits:
            assert dtype_of("bfloat16", cuda) == torch.bfloat16
        else:
            with pytest.raises(UserError, match=r'"bfloat16" needs a GPU of compute capability 8\.0, got 7\.5'):
                dtype_of("bfloat16", cuda)


def test_attention_on_cuda_is_never_that_of_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    known = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        for name in ("cuda", "auto"):
            torch.backends.cuda.enable_cudnn_sdp(True)
            assert device_of(name, key="run.device").type == "cuda"
            assert not torch.backends.cuda.cudnn_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(known)
