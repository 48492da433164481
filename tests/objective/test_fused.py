"""The Triton kernels beside the equations of `policy_loss`: on a CUDA device, or interpreted where there is none.

Forcing the reference: `influence=fipo_influence` is what None stands for, but the kernels do not take it.
"""

import dataclasses
import math
import os
import subprocess
import sys
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fipo.objective import (
    AGGREGATIONS,
    ALGORITHMS,
    FIPOConfig,
    LossInputs,
    algorithm,
    fipo_influence,
    fused,
    metric_values,
    policy_loss,
)
from fipo.objective.metrics import RATIO_BINS, RATIO_SCALE, RATIO_WIDTH
from fipo.objective.surrogates import Clipped

CLIPPED = [name for name, one in ALGORITHMS.items() if isinstance(one.surrogate, Clipped)]
CUDA = torch.cuda.is_available()
C = fused.CHUNK if CUDA else 16  # the interpreter scans token by token
CFG = FIPOConfig.release_7b()
SHORT = dataclasses.replace(CFG, half_life=C / 8)  # what lies beyond the next chunk still counts
OPTIONS = {name: {"aggregation": name, "longest": 32} for name in AGGREGATIONS}
FIELDS = ("kept", "log_ratio", "ratio", "future_kl", "influence_weights", "dual_clipped", "advantages")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(fused, "CHUNK", C)


@pytest.fixture
def batch(make_inputs):
    """make_inputs in float32."""

    def build(seed=0, rows=2, tokens=C + 5, **options):
        inputs = make_inputs(seed, rows=rows, tokens=tokens, **options)
        names = ("logprobs", "old_logprobs", "advantages")
        return dataclasses.replace(inputs, **{name: getattr(inputs, name).detach().float() for name in names})

    return build


def assert_same_values(got, expected, rel=2e-5, abs=2e-6):
    got, expected = metric_values(got.metrics()), metric_values(expected.metrics())
    assert list(got) == list(expected)
    for key, value in expected.items():
        assert got[key] == pytest.approx(value, rel=rel, abs=abs, nan_ok=True), key


@pytest.fixture
def compare(run, run_fused):
    """Both ways: loss, total, weights, gradient and every metric must be the same. Gives the fused outcome."""

    def check(inputs, chosen, **options):
        expected, expected_gradient = run(inputs, chosen, influence=fipo_influence, **options)
        out, gradient = run_fused(inputs, chosen, **options)
        for name in ("loss", "total"):
            got, wanted = getattr(out, name), getattr(expected, name)
            assert got.dtype == wanted.dtype
            assert got.item() == pytest.approx(wanted.item(), rel=1e-5, abs=1e-6), name
        for name in ("weight", "kept_tokens"):
            got, wanted = getattr(out, name), getattr(expected, name)
            assert (got.dtype, got.item()) == (wanted.dtype, wanted.item()), name
        assert torch.equal(out.kept_rows.cpu(), expected.kept_rows)
        scale = expected_gradient.abs().max().item() if expected_gradient.numel() else 0.0
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=2e-6 * scale)
        assert_same_values(out, expected)
        return out, gradient

    return check


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_is_the_same(name, batch, compare):
    """Also the ones that the kernels do not know, whose loss must not silently become another's."""
    chosen = algorithm(name, half_life=C / 8)
    out, gradient = compare(batch(1, tokens=2 * C + 5, spikes=0.3), chosen, longest=32)
    assert gradient.abs().max() > 0
    if name in CLIPPED:
        assert bool(out.rows.dual_clipped.any()) == (chosen.config.dual_clip < math.inf)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_kernels_compute_what_they_know_and_nothing_else(name, batch, run_fused):
    with mock.patch.object(fused, "row_losses", wraps=fused.row_losses) as kernels:
        run_fused(batch(1, rows=1, tokens=4), ALGORITHMS[name], longest=32)
    assert kernels.called == (name in CLIPPED)


def test_a_surrogate_of_the_users_own_is_right_where_the_kernels_run(batch, run, run_fused):
    mine = algorithm("dapo", surrogate=lambda tokens, cfg: -tokens.advantages * tokens.ratio)
    (out, gradient), (expected, wanted) = run_fused(batch(1), mine), run(batch(1), mine)
    assert out.loss.item() == expected.loss.item()
    assert torch.equal(gradient, wanted)
    assert out.loss.item() != run_fused(batch(1), ALGORITHMS["dapo"])[0].loss.item()


@pytest.mark.parametrize("tokens", [1, C - 1, C, 3 * C + 1])
@pytest.mark.parametrize("rows", [1, 2])
def test_every_shape_is_the_same(rows, tokens, batch, compare):
    compare(batch(2, rows=rows, tokens=tokens, spikes=0.1), SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [2, 7, C + 1, 2 * C, 5 * C - 3])
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("name", CLIPPED)
def test_every_shape_is_the_same_for_every_algorithm(name, rows, tokens, batch, compare):
    compare(batch(3, rows=rows, tokens=tokens, spikes=0.1), ALGORITHMS[name].config)


@pytest.mark.parametrize("denominator", [None, 3.5, torch.tensor(7)], ids=["own", "number", "tensor"])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_every_aggregation_and_denominator_is_the_same(aggregation, denominator, batch, compare):
    inputs = batch(4, rows=2, tokens=C)
    inputs.logprobs[1] = inputs.old_logprobs[1] + 3  # the filter drops it
    out, _ = compare(inputs, CFG, denominator=denominator, **OPTIONS[aggregation])
    assert out.kept_rows.tolist() == [True, False]


@pytest.mark.parametrize("half_life", [1e-3, 1.0, 256.0, math.inf])
def test_every_half_life_is_the_same(half_life, batch, compare):
    compare(
        batch(5, rows=1, tokens=3 * C + 1), dataclasses.replace(CFG, half_life=half_life, influence_clip=(0.1, 5.0))
    )


def mask_of(kind, shape):
    if kind == "holes":
        return torch.arange(shape[1]).expand(shape) % 3 > 0
    if kind == "an empty chunk":
        return (torch.arange(shape[1]).expand(shape) // C) != 1
    return torch.full(shape, kind == "full")


@pytest.mark.parametrize("kind", ["full", "none", "holes", "an empty chunk"])
def test_every_mask_is_the_same(kind, batch, compare):
    inputs = batch(6, tokens=2 * C + 5)
    out, gradient = compare(dataclasses.replace(inputs, loss_mask=mask_of(kind, inputs.logprobs.shape)), SHORT)
    if kind == "none":
        assert out.kept_tokens == 0
        assert out.loss == 0
        assert (gradient == 0).all()


def test_one_advantage_per_token_is_the_same(batch, compare):
    inputs = batch(7)
    advantages = torch.randn(inputs.logprobs.shape, generator=torch.Generator().manual_seed(0))
    advantages[:, ::5] = 0
    compare(dataclasses.replace(inputs, advantages=advantages.masked_fill(~inputs.loss_mask, math.nan)), SHORT)
    compare(dataclasses.replace(inputs, advantages=advantages.double()), SHORT)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
def test_what_stands_off_the_mask_is_never_read(value, batch, compare, run_fused):
    inputs = batch(8)
    spoilt = {
        name: getattr(inputs, name).masked_fill(~inputs.loss_mask, value) for name in ("logprobs", "old_logprobs")
    }
    (plain, gradient), (out, same) = run_fused(inputs, CFG), compare(dataclasses.replace(inputs, **spoilt), CFG)
    assert torch.equal(out.loss, plain.loss)
    assert torch.equal(same, gradient)
    assert out.metrics() == plain.metrics()


def test_log_ratios_at_and_beyond_the_clamp_are_the_same(compare):
    difference = torch.tensor(
        [[0.0, 20.0, 20.1, -20.0, -20.1, -30.0, -math.inf, 5.0], [1e-9, -1e-9, 88, 2.2, 2, 9, 0, 1]]
    )
    for advantages in (torch.tensor([1.0, -1.0]), torch.tensor([-1.0, 1.0])):
        inputs = LossInputs(
            logprobs=difference,
            old_logprobs=torch.zeros(2, 8),
            advantages=advantages,
            loss_mask=torch.ones(2, 8, dtype=torch.bool),
        )
        for cfg in (FIPOConfig.grpo(), dataclasses.replace(CFG, influence_clip=None, half_life=2.0)):
            compare(inputs, cfg, denominator=1.0)


def test_a_raw_weight_that_overflows_stays_the_same_finite_number(compare):
    drift = torch.full((2, 150), 2.2) * torch.tensor([[1.0], [-1.0]])
    inputs = LossInputs(
        logprobs=drift,
        old_logprobs=torch.zeros(2, 150),
        advantages=torch.ones(2),
        loss_mask=torch.ones(2, 150, dtype=torch.bool),
    )
    out, _ = compare(inputs, dataclasses.replace(CFG, half_life=math.inf))
    assert 1e100 < metric_values(out.metrics())["fipo/raw_influence_weight/max"] < math.inf


@pytest.mark.skipif(CUDA, reason="exp(log(2)) need not be exactly 2 on a GPU")
@pytest.mark.parametrize("advantage", [1.0, -1.0, 0.0])
def test_the_gradient_at_the_edge_of_every_clip_is_the_same(advantage, compare):
    ratio = torch.tensor([[2.0, 1.0, 0.5, 1.5, 0.75, 4.0, 1.0, 3.0]])
    inputs = LossInputs(
        logprobs=ratio.log(),
        old_logprobs=torch.zeros(1, 8),
        advantages=torch.tensor([advantage]),
        loss_mask=torch.ones(1, 8, dtype=torch.bool),
    )
    cfg = FIPOConfig(
        clip_low=0.5, clip_high=0.5, dual_clip=2.0, influence_clip=(1.0, 1.0), max_dual_clipped_tokens=None
    )
    compare(inputs, cfg, denominator=1.0)


def test_strided_inputs_are_the_same(batch, compare):
    inputs = batch(9, rows=4, tokens=2 * C)
    strided = LossInputs(
        logprobs=inputs.logprobs.T.contiguous().T[::2],
        old_logprobs=inputs.old_logprobs.repeat_interleave(2, dim=1)[::2, ::2],
        advantages=inputs.advantages[::2, None].expand(-1, 2 * C),
        loss_mask=inputs.loss_mask.T.contiguous().T[::2],
    )
    compare(strided, SHORT)


@settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 2),
    tokens=st.integers(1, 2 * C),
    noise=st.sampled_from([0.0, 1e-4, 0.1, 2.0]),
    clip=st.sampled_from([None, (1.0, 1.2), (0.5, 3.0)]),
    half_life=st.floats(0.1, 1e4),
)
def test_random_batches_are_the_same(seed, rows, tokens, noise, clip, half_life, batch, compare):
    cfg = dataclasses.replace(CFG, influence_clip=clip, half_life=half_life, max_dual_clipped_tokens=None)
    compare(batch(seed, rows=rows, tokens=tokens, noise=noise), cfg)


def test_a_nan_in_a_trained_token_is_not_hidden(batch, run_fused):
    inputs = batch(10)
    token = int(inputs.loss_mask[0].nonzero()[-1])
    inputs.logprobs[0, token] = math.nan
    out, _ = run_fused(inputs, CFG)
    assert out.loss.isnan()
    values = metric_values(out.metrics())
    for key in ("policy/loss", "policy/kl", "policy/ratio_pos/min", "policy/ratio_pos/max"):
        assert math.isnan(values[key]), key


def test_a_nan_in_a_dropped_response_reaches_neither_the_loss_nor_a_gradient(run_fused):
    ratio = torch.tensor([[12.0, 12.0, math.nan, 1.0], [1.1, 0.9, 1.0, 1.2]])
    inputs = LossInputs(
        logprobs=ratio.log(),
        old_logprobs=torch.zeros(2, 4),
        advantages=torch.tensor([-1.0, 1.0]),
        loss_mask=torch.ones(2, 4, dtype=torch.bool),
    )
    out, gradient = run_fused(inputs, CFG)
    assert out.kept_rows.tolist() == [False, True]
    assert out.loss.isfinite()
    assert (gradient[0] == 0).all()
    assert (gradient[1] != 0).all()


def test_on_policy_fipo_is_dapo_bit_for_bit_and_every_weight_is_exactly_1(batch, compare, run_fused):
    inputs = batch(11)
    inputs = dataclasses.replace(inputs, logprobs=inputs.old_logprobs.clone())
    (fipo, gradient), (dapo, same) = compare(inputs, CFG), run_fused(inputs, FIPOConfig.dapo())
    assert torch.equal(fipo.loss, dapo.loss)
    assert torch.equal(gradient, same)
    values = metric_values(fipo.metrics())
    assert {values[f"fipo/{f}influence_weight/{x}"] for f in ("", "raw_") for x in ("mean", "min", "max")} == {1.0}
    assert values["fipo/influence_weight/std"] == values["fipo/raw_influence_weight/std"] == 0
    assert values["policy/ratio_pos/median"] == 1.0


def test_a_log_ratio_falls_into_its_own_bin(run_fused):
    index = torch.arange(0, RATIO_BINS, 1 if CUDA else 23)
    middle = RATIO_SCALE * ((index.double() + 0.5 - RATIO_BINS // 2) * RATIO_WIDTH).sinh()
    x = torch.cat([middle.float(), torch.tensor([0.0, 1e-30, -1e-30, 20.0, -20.0])])[None]
    inputs = LossInputs(
        logprobs=x, old_logprobs=0 * x, advantages=torch.ones(1), loss_mask=torch.ones_like(x, dtype=torch.bool)
    )
    half = RATIO_BINS // 2
    expected = torch.bincount(
        torch.cat([index, torch.tensor([half, half, half - 1, RATIO_BINS - 1, 0])]), minlength=RATIO_BINS
    )
    for sign, name in ((1.0, "pos"), (-1.0, "neg")):
        signed = dataclasses.replace(inputs, advantages=torch.tensor([sign]))
        counts = run_fused(signed, CFG)[0].metrics()[f"policy/ratio_{name}"].counts
        assert counts == tuple(expected.tolist())


def test_the_spread_of_nearly_equal_weights_keeps_its_digits(compare, batch):
    """Weights of 1 +- 1e-5 in three chunks: squares would cancel in float32."""
    inputs = batch(12, rows=1, tokens=3 * C, noise=0, spikes=0)
    inputs = dataclasses.replace(inputs, old_logprobs=torch.zeros(1, 3 * C), loss_mask=torch.ones(1, 3 * C).bool())
    noise = 1e-5 * torch.randn(1, 3 * C, generator=torch.Generator().manual_seed(0))
    cfg = dataclasses.replace(CFG, half_life=1e-3)
    out, _ = compare(dataclasses.replace(inputs, logprobs=noise), cfg)
    std = metric_values(out.metrics())["fipo/raw_influence_weight/std"]
    assert std == pytest.approx(noise.std(correction=0).item(), rel=1e-4)


def test_two_runs_are_equal_bit_for_bit(batch, run_fused):
    inputs = batch(13)
    (once, gradient), (again, same) = run_fused(inputs, CFG), run_fused(inputs, CFG)
    assert torch.equal(once.loss, again.loss)
    assert torch.equal(gradient, same)
    assert once.metrics() == again.metrics()


def test_the_length_of_a_chunk_changes_rounding_only(batch, compare, monkeypatch):
    inputs = batch(14, rows=1, tokens=3 * C)
    for chunk in (2 * C, 4 * C):
        monkeypatch.setattr(fused, "CHUNK", chunk)
        compare(inputs, SHORT)


def test_per_token_fields_are_computed_when_somebody_looks_and_once(batch, run, run_fused):
    inputs = batch(15, rows=2, tokens=C)
    expected, _ = run(inputs, CFG, influence=fipo_influence)
    with mock.patch("fipo.objective.policy_loss.influence_kl", side_effect=AssertionError("too early")):
        out, _ = run_fused(inputs, CFG)
        out.metrics()
    for name in FIELDS:
        got = getattr(out, name)
        assert got is getattr(out, name)
        assert not got.requires_grad
        torch.testing.assert_close(got.cpu(), getattr(expected, name), rtol=1e-5, atol=1e-6)


def test_arguments_are_not_changed(batch, run_fused):
    inputs = batch(16, rows=1)
    before = {name: tensor.clone() for name, tensor in vars(inputs).items() if tensor is not None}
    run_fused(inputs, CFG)[0].metrics()
    for name, tensor in before.items():
        assert torch.equal(getattr(inputs, name), tensor)


def test_a_second_derivative_is_refused(batch, run_fused, monkeypatch):
    run_fused(batch(17, rows=1, tokens=1), CFG)  # skips without triton
    inputs = batch(17, rows=1, tokens=C)
    logprobs = inputs.logprobs.requires_grad_()
    if CUDA:
        pytest.skip("covered by the interpreter")
    loss = policy_loss(inputs, CFG).loss
    (gradient,) = torch.autograd.grad(loss, logprobs, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient.sum().backward()


def on_cuda(**changes):
    """Stand-ins for tensors on a CUDA device."""

    def tensor(dtype=torch.float32, elements=6, is_cuda=True):
        return mock.Mock(dtype=dtype, is_cuda=is_cuda, numel=lambda: elements)

    return mock.Mock(
        logprobs=tensor(**changes.get("logprobs", {})),
        old_logprobs=tensor(**changes.get("old", {})),
        importance_weights=changes.get("weights"),
    )


@pytest.mark.parametrize(
    ("changes", "triton", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"logprobs": {"is_cuda": False}}, True, False),
        ({"logprobs": {"dtype": torch.float64}}, True, False),
        ({"old": {"dtype": torch.bfloat16}}, True, False),
        ({"logprobs": {"elements": 0}}, True, False),
        ({"weights": mock.Mock()}, True, False),
    ],
)
def test_the_kernels_take_float32_on_cuda_where_triton_is_installed(changes, triton, expected, monkeypatch):
    monkeypatch.setattr(fused, "obstacle", lambda: None if triton else "no")
    assert fused.applies(on_cuda(**changes), ALGORITHMS["release_32b"]) == expected


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_kernels_take_the_surrogate_that_they_know(name, monkeypatch):
    monkeypatch.setattr(fused, "obstacle", lambda: None)
    assert fused.applies(on_cuda(), ALGORITHMS[name]) == (name in CLIPPED)


def test_a_subclass_of_the_surrogate_that_the_kernels_know_is_another_one(monkeypatch):
    class Mine(Clipped):
        pass

    monkeypatch.setattr(fused, "obstacle", lambda: None)
    assert not fused.applies(on_cuda(), algorithm("dapo", surrogate=Mine()))


def test_a_replaced_influence_goes_by_the_equations(batch, monkeypatch):
    monkeypatch.setattr(fused, "applies", lambda *_: pytest.fail("not asked"))
    policy_loss(batch(18, rows=1, tokens=4), CFG, influence=fipo_influence)


SIGNATURES = """
import sys
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from fipo.objective import fused, kernels

POINTERS = {"old_logprobs": "*fp32", "loss_mask": "*u8", "counts": "*i32", "values": "*fp64", "histogram": "*i32"}
ARRAYS = ("logprobs", "advantages", "chunk_kl", "gradient", "row_scale", "scaled")
POINTERS |= dict.fromkeys(ARRAYS, "*fp32") | dict.fromkeys(("length", "chunks"), "i32")
for kernel in (kernels.chunk_kernel, kernels.token_kernel, kernels.scale_kernel):
    for constants in (
        {"PER_TOKEN": False, "CHUNK": fused.CHUNK, "CHUNKS": 128, "COPIES": fused.HISTOGRAMS},
        {"PER_TOKEN": True, "CHUNK": fused.CHUNK, "CHUNKS": 512, "COPIES": fused.HISTOGRAMS},
    ):
        constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
        signature = {name: "constexpr" if name.isupper() else POINTERS.get(name, "fp32") for name in kernel.arg_names}
        aligned = [i for i, name in enumerate(kernel.arg_names) if signature[name][0] == "*" or name == "length"]
        attributes = {(i,): [["tt.divisibility", 16]] for i in aligned}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
        for capability in (80, 89, 90, 100):
            compiled = compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": fused.WARPS})
            assert compiled.asm["cubin"]
            assert "bar.sync" not in compiled.asm["ptx"]
            print(kernel.__name__, capability)
"""


@pytest.mark.slow
def test_the_kernels_compile_for_gpus_that_are_not_here(tmp_path, run_fused):
    """From Ampere to Blackwell, down to machine code: what the interpreter takes the compiler might not. No barrier."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", SIGNATURES], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stdout.splitlines()) == 24


@pytest.mark.gpu
@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("name", CLIPPED)
@pytest.mark.parametrize(("rows", "tokens"), [(1, 20480), (8, 5000), (64, 1023), (3, 1)])
def test_policy_loss_chooses_the_kernels_by_itself_on_cuda(rows, tokens, name, per_token, batch):
    inputs = batch(20, rows=rows, tokens=tokens, spikes=0.01)
    inputs = LossInputs(**{key: tensor.cuda() for key, tensor in vars(inputs).items() if tensor is not None})
    if per_token:
        inputs = dataclasses.replace(inputs, advantages=inputs.advantages[:, None].expand_as(inputs.logprobs))
    inputs.logprobs.requires_grad_()

    def outcome(**options):
        out = policy_loss(inputs, ALGORITHMS[name], longest=32, **options)
        return out, torch.autograd.grad(out.loss, inputs.logprobs)[0]

    with mock.patch.object(fused, "row_losses", wraps=fused.row_losses) as chosen:
        outcome()  # compiles
        torch.cuda.set_sync_debug_mode("error")
        try:
            out, gradient = outcome()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert chosen.call_count == 2
    expected, expected_gradient = outcome(influence=fipo_influence)
    torch.testing.assert_close(out.loss, expected.loss, rtol=1e-4, atol=1e-5)
    assert (out.weight, out.kept_tokens) == (expected.weight, expected.kept_tokens)
    off = (gradient - expected_gradient).abs() > 1e-4 * expected_gradient.abs().max()
    assert off.sum() <= 2  # the exponentials differ in the last bit: a ratio at the edge of a clip may fall either way
    assert_same_values(out, expected, rel=1e-4, abs=2.5 / inputs.loss_mask.sum().item())


@pytest.mark.parametrize("without", [torch.no_grad(), torch.inference_mode()], ids=["no_grad", "inference_mode"])
def test_the_trial_launch_takes_its_gradient_whoever_asks_first(without, monkeypatch):
    monkeypatch.setattr(fused, "_kernels_are_right", takes_a_gradient)
    with without:
        assert fused.obstacle.__wrapped__() is None


def takes_a_gradient(_):
    x = torch.ones(2, requires_grad=True)
    return bool((torch.autograd.grad(x.square().sum(), x)[0] == 2).all())


def test_where_a_trial_launch_fails_the_equations_are_used(monkeypatch):
    if CUDA:
        pytest.skip("it does not fail here")
    fused.obstacle.cache_clear()
    try:
        assert fused.obstacle().startswith("a trial failed with ")
        assert not fused.applies(on_cuda(), ALGORITHMS["release_32b"])
        monkeypatch.setattr(fused, "find_spec", lambda _: None)
        fused.obstacle.cache_clear()
        assert fused.obstacle() == "triton is not installed"
    finally:
        fused.obstacle.cache_clear()
