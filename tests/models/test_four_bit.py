import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.conftest import random_model
from torch import nn
from transformers import PreTrainedModel

from fipo.errors import MissingExtra, UserError
from fipo.extras import install_hint
from fipo.models.four_bit import BLOCK, FourBitLinear, quantise
from fipo.models.loading import load

pytest.importorskip("bitsandbytes")
CPU = torch.device("cpu")
# The 16 values of NF4 (QLoRA, appendix E), to four digits.
NF4 = [-1, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0]
NF4 += [0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1]


def four_bit(model: PreTrainedModel) -> PreTrainedModel:
    quantise(model, CPU)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_each_weight_is_the_nearest_of_16_values_times_the_largest_of_its_block(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(2 * BLOCK, 3, dtype=dtype)
    blocks = linear.weight.detach().float().reshape(-1, BLOCK)
    largest = blocks.abs().amax(1, keepdim=True)
    values = torch.tensor(NF4)
    expected = values[(blocks[..., None] / largest[..., None] - values).abs().argmin(-1)] * largest
    layer = FourBitLinear(linear, CPU)
    assert layer.weight.dtype == dtype
    torch.testing.assert_close(layer.weight.float().reshape(-1, BLOCK), expected, atol=2e-3, rtol=1e-2)


def test_linear_layers_but_the_output_layer_are_kept_in_4_bits() -> None:
    base = random_model()
    model = four_bit(copy.deepcopy(base))
    packed = {name for name, module in model.named_modules() if isinstance(module, FourBitLinear)}
    linear = {name for name, module in base.named_modules() if type(module) is nn.Linear}
    assert packed == linear - {"lm_head"}
    name = "model.layers.1.mlp.up_proj"
    held = sum(p.numel() * p.element_size() for p in model.get_submodule(name).parameters())
    assert held == base.get_parameter(f"{name}.weight").numel() * (1 / 2 + 4 / BLOCK)


def test_it_computes_what_a_model_with_its_dequantised_weights_does_bit_for_bit_with_its_gradients() -> None:
    model = four_bit(random_model("qwen2"))
    plain = random_model("qwen2", seed=1)
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            owner, _, field = name.rpartition(".")
            parameter.copy_(getattr(model.get_submodule(owner), field))
    embeddings = [m.get_input_embeddings()(torch.tensor([[3, 4, 5, 6]])).detach() for m in (model, plain)]
    logits = []
    for one, embedded in zip((model, plain), embeddings, strict=True):
        embedded.requires_grad_(True)
        logits.append(one(inputs_embeds=embedded, use_cache=False).logits)
        logits[-1].square().mean().backward()
    assert torch.equal(*logits)
    torch.testing.assert_close(embeddings[0].grad, embeddings[1].grad)
    with torch.no_grad():
        assert torch.equal(model(inputs_embeds=embeddings[0], use_cache=False).logits, logits[0])


def test_on_the_meta_device_it_has_the_same_sizes() -> None:
    with torch.device("meta"):
        outline = type(random_model())(random_model().config)
    quantise(outline, torch.device("meta"))
    real = four_bit(random_model())
    sizes = [{n: (p.shape, p.dtype) for n, p in m.named_parameters()} for m in (outline, real)]
    assert sizes[0] == sizes[1]


def test_a_small_change_of_weights_that_were_in_4_bits_is_lost_in_4_bits_again_and_one_of_other_weights_is_not() -> (
    None
):
    torch.manual_seed(0)
    linear = nn.Linear(256, 64, bias=False)
    rounded = FourBitLinear(linear, CPU).weight
    change = 0.01 * rounded.std() * torch.randn_like(rounded)
    left = []
    for weights in (rounded, linear.weight.detach()):
        changed = nn.Linear(256, 64, bias=False)
        changed.weight.data = weights + change
        difference = FourBitLinear(changed, CPU).weight - rounded
        left.append(float((difference * change).sum() / change.square().sum()))
    assert abs(left[0]) < 0.05 and left[1] == pytest.approx(1, abs=0.3)


def test_weights_of_a_run_on_such_a_base_are_not_rounded_again(tmp_path: Path) -> None:
    model, _ = load("embedded")
    four_bit(model)
    model.config.save_pretrained(tmp_path)
    again, _ = load("embedded")
    again.config = type(again.config).from_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"would round away what adapters .* \(--resume --run\.steps\)"):
        quantise(again, CPU)


def test_a_missing_package_is_one_line_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingExtra) as error:
        quantise(random_model(), CPU)
    assert str(error.value) == f'model.lora.base: "4bit" needs the extra: {install_hint("bitsandbytes")}'


@pytest.mark.slow
def test_nothing_is_said_and_no_kernel_is_looked_for_when_the_package_is_imported() -> None:
    """Elsewhere than here, where it is imported already. On processors without bfloat16 units it never looks."""
    script = (
        "import sys, types\n"
        "fetched = []\n"
        "kernels = types.ModuleType('kernels')\n"
        "kernels.get_kernel = lambda *a, **k: fetched.append(a)\n"
        "sys.modules['kernels'] = kernels\n"
        "from fipo.extras import import_bitsandbytes\n"
        "import_bitsandbytes()\n"
        "assert not fetched, fetched\n"
        "assert sys.modules['kernels'] is kernels\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
