"""The measure of rounding in a step against a direct computation, and that it leaves no trace."""

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.training.helpers import run_recipe

from fipo.objective import future_kl
from fipo.training import step as step_module
from fipo.training.passes.logprobs import score
from fipo.training.rounding import Credit, correlation, rounding_metrics

KEYS = {
    "fipo/future_kl_noise",
    "fipo/rounding/log_ratio",
    "fipo/rounding/future_kl",
    "fipo/rounding/influence_weight",
    "fipo/rounding/influence_weight_share",
    "fipo/rounding/weights_changed",
}


def measured(line: dict[str, float]) -> set[str]:
    return KEYS & line.keys()


def credit(future_kl: torch.Tensor) -> Credit:
    return Credit(log_ratio=0.1 * future_kl, future_kl=future_kl, influence_weight=future_kl.exp().clamp(1.0, 1.2))


def test_the_noise_is_the_sd_of_the_error_over_that_of_the_signal() -> None:
    generator = torch.Generator().manual_seed(0)
    signal, error = (torch.randn(100_000, generator=generator, dtype=torch.float64) for _ in range(2))
    found = rounding_metrics(credit(0.1 * signal + 0.3 * error), credit(0.1 * signal))
    assert found["fipo/future_kl_noise"] == pytest.approx(3.0, rel=0.01)
    assert found["fipo/rounding/future_kl"] == pytest.approx(0.3, rel=0.01)
    assert found["fipo/rounding/log_ratio"] == pytest.approx(0.03, rel=0.01)
    assert 0.85 < found["fipo/rounding/influence_weight_share"] < 1


def test_credit_that_is_exact_has_none_and_credit_that_is_constant_none_to_speak_of() -> None:
    exact = credit(torch.linspace(-1, 1, 9, dtype=torch.float64))
    found = rounding_metrics(exact, exact)
    assert found["fipo/future_kl_noise"] == 0
    assert found["fipo/rounding/influence_weight_share"] == pytest.approx(0)
    assert rounding_metrics(exact, credit(torch.zeros(9, dtype=torch.float64))) == {}
    assert correlation(torch.ones(3), torch.arange(3.0)) == 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_step_measures_what_a_direct_computation_gives(
    dtype: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Float32 copies of the policy before the step and before the last update, and the definition of F."""
    models, probes, updates = [], [], []
    ours = step_module.update, step_module.rounding_probe

    def update(trainer, packs, old, reference):
        models.append(_float32(trainer))
        updates.append(ours[0](trainer, packs, old, reference))
        return updates[-1]

    def probe(trainer, *rest):
        probes.append(ours[1](trainer, *rest))
        return probes[-1]

    monkeypatch.setattr(step_module, "update", update)
    monkeypatch.setattr(step_module, "rounding_probe", probe)
    line = run_recipe(folder, "run", run__steps="1", model__dtype=dtype).read_metrics()[-1]

    [pack] = updates[1].packs[:1]
    assert pack.pack is probes[0].pack
    mask = pack.pack.loss_mask
    old, now = (score(model, pack.pack, 1.0, entropy=False).logprobs.detach() for model in models)
    exact = future_kl(torch.where(mask, now - old, 0.0), 32.0)[mask].double()
    used = future_kl(pack.output.log_ratio, 32.0)[mask].double()
    expected = (used - exact).std(correction=0) / exact.std(correction=0)
    assert line["fipo/future_kl_noise"] == pytest.approx(float(expected), rel=1e-4)
    assert line["fipo/future_kl_noise"] > 0
    assert 0 < line["fipo/rounding/weights_changed"] <= 1


def _float32(trainer):
    model = copy.deepcopy(trainer.model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.data = trainer.optimizer.masters[name].clone()
    return model


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_with_and_without_it_a_run_has_the_same_weights(dtype: str, folder: Path) -> None:
    weights, lines = [], []
    for every in ("1", "0"):
        run = run_recipe(folder, f"every-{every}", run__steps="2", model__dtype=dtype, telemetry__noise_every=every)
        weights.append(load_file(run.all_checkpoints()[-1] / "model.safetensors"))
        lines.append(run.read_metrics()[1:])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert [measured(line) for line in lines[0]] == [KEYS, KEYS]
    assert not any(measured(line) for line in lines[1])
    assert all("time/rounding" in line for line in lines[0])
    for with_it, without in zip(*lines, strict=True):
        same = {key for key in without if not key.startswith("time/")}
        assert {key: with_it[key] for key in same} == {key: without[key] for key in same}


def test_it_comes_in_the_first_step_and_then_every_so_many(folder: Path) -> None:
    run = run_recipe(folder, "run", run__steps="4", model__dtype="bfloat16", telemetry__noise_every="3")
    assert [line["step"] for line in run.read_metrics() if measured(line)] == [1, 3]


@pytest.mark.parametrize("settings", [{}, {"model__dtype": "bfloat16", "update__mini_batches": "1"}])
def test_float32_and_weights_that_have_not_moved_need_none(settings: dict[str, str], folder: Path) -> None:
    assert not measured(run_recipe(folder, "run", run__steps="1", **settings).read_metrics()[-1])
