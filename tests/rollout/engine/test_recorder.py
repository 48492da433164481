import gc
import weakref
from dataclasses import replace

import pytest
import torch
from tests.conftest import SHAPE, random_model
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen3MoeConfig

from fipo.rollout.engine import recorder
from fipo.rollout.engine import slot_engine as engine_module
from fipo.rollout.engine.recorder import round_up
from fipo.rollout.engine.slot_engine import SlotEngine
from fipo.rollout.sampler import Response, SamplingParams

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [14, 15], [5, 6, 7]] * 4
STOPS = tuple(range(1, 48, 6))
SAMPLED = SamplingParams(temperature=0.7, max_tokens=50)
GREEDY = SamplingParams(temperature=0.0, max_tokens=50)


def sample(model: PreTrainedModel, params: SamplingParams = SAMPLED) -> list[Response]:
    return SlotEngine(model, stop_tokens=STOPS, slots=7).sample(PROMPTS, params, seed=0)


def never_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "EAGER_STEPS", 10**9)


def test_sizes_are_rounded_up_to_few() -> None:
    assert sorted({round_up(size, parts=2, least=4) for size in range(1, 65)}) == [4, 8, 12, 16, 24, 32, 48, 64]
    for size in range(1, 3000):
        rounded = round_up(size, parts=8, least=32)
        assert size <= rounded < max(size + 32, size * 9 / 8)
        assert rounded % 32 == 0


def test_a_recorded_step_gives_the_bits_of_an_eager_one(
    any_model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = sample(any_model)
    never_recorded(monkeypatch)
    assert recorded == sample(any_model)


def test_a_recorded_step_computes_no_sizes(any_model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    traces, trace = [], recorder._traced

    def kept(*args):
        traces.append(trace(*args))
        return traces[-1]

    monkeypatch.setattr(recorder, "_traced", kept)
    sample(any_model)
    kinds = {node.kind() for traced in traces for node in traced.graph.nodes()}
    assert "aten::linear" in kinds or "aten::addmm" in kinds
    assert not {"aten::size", "aten::Int", "prim::NumToTensor"} & kinds


def test_recorded_steps_follow_weights_that_change_in_place(
    any_model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = SlotEngine(any_model, stop_tokens=STOPS, slots=7)
    before = sampler.sample(PROMPTS, SAMPLED, seed=0)
    kept = sampler._recorder
    assert kept.replays
    with torch.no_grad():
        for parameter in any_model.parameters():
            parameter.add_(0.3)
    after = sampler.sample(PROMPTS, SAMPLED, seed=0)
    assert sampler._recorder is kept
    never_recorded(monkeypatch)
    assert before != after == sample(any_model)


def test_recorded_steps_are_given_up_when_weights_move_to_another_place(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = SlotEngine(model, stop_tokens=STOPS, slots=7)
    sampler.sample(PROMPTS, SAMPLED, seed=0)
    for parameter in model.parameters():
        parameter.data = parameter.data * 0.5
    after = sampler.sample(PROMPTS, SAMPLED, seed=0)
    never_recorded(monkeypatch)
    assert after == sample(model)


def test_a_step_that_looks_at_values_is_never_recorded() -> None:
    torch.manual_seed(0)
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    model = AutoModelForCausalLM.from_config(Qwen3MoeConfig(**SHAPE, head_dim=8, **experts)).eval()
    model.set_experts_implementation("eager")  # loops over the experts that are in use
    sampler = SlotEngine(model, stop_tokens=(1,), slots=7)
    responses = sampler.sample(PROMPTS[:5], GREEDY, seed=0)
    assert sampler._recorder.replays == {}
    for prompt, response in zip(PROMPTS, responses, strict=False):
        expected = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False, max_new_tokens=50
        )
        assert response.tokens == expected[0, len(prompt) :].tolist()


def test_training_in_between_leaves_no_trace(model: PreTrainedModel) -> None:
    sampler = SlotEngine(model, stop_tokens=STOPS, slots=7)
    sampler.sample(PROMPTS, SAMPLED, seed=0)
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.parameters())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(input_ids=torch.tensor([[3, 4, 5]])).logits.square().sum().backward()
    optimizer.step()
    assert sampler.sample(PROMPTS, SAMPLED, seed=0) == sample(model)


def test_on_a_cpu_large_models_are_not_recorded_as_a_trace_takes_memory_and_saves_little(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "TRACED_WEIGHTS", 100)
    sampler = SlotEngine(model, stop_tokens=STOPS, slots=7)
    responses = sampler.sample(PROMPTS, SAMPLED, seed=0)
    assert sampler._recorder.replays == {}
    monkeypatch.undo()
    assert responses == sample(model)


def test_recordings_go_with_their_engine() -> None:
    model = random_model()
    sampler = SlotEngine(model, stop_tokens=STOPS, slots=7)
    sampler.sample(PROMPTS, SAMPLED, seed=0)
    assert sampler._recorder.replays
    of_a_recording = weakref.ref(model.model.rotary_emb.inv_freq)  # a trace holds what it took for constants
    del model, sampler
    gc.collect()
    assert of_a_recording() is None


@pytest.mark.parametrize("limits", [{"top_k": 5}, {"top_p": 0.8}, {"top_k": 20, "top_p": 0.8}, {"top_k": 1000}])
def test_a_step_with_top_k_and_top_p_is_recorded_as_well(
    model: PreTrainedModel, limits: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    params = replace(SAMPLED, **limits)
    sampler = SlotEngine(model, stop_tokens=STOPS, slots=7)
    recorded = sampler.sample(PROMPTS, params, seed=0)
    assert sampler._recorder.replays
    never_recorded(monkeypatch)
    assert recorded == sample(model, params)


def test_steps_are_recorded_once_whatever_the_longest_response_may_be(model: PreTrainedModel) -> None:
    sampler = SlotEngine(model, stop_tokens=STOPS, slots=7)
    sampler.sample(PROMPTS, replace(SAMPLED, max_tokens=30), seed=0)
    recorded = set(sampler._recorder.replays)
    sampler.sample(PROMPTS, replace(SAMPLED, max_tokens=29), seed=0)
    assert set(sampler._recorder.replays) == recorded


class TestARecordingThatFails:
    """Here a trace; a CUDA graph's capture ends in the same function."""

    @pytest.mark.parametrize("when", ["before the step", "after it"])
    def test_steps_stay_eager_with_one_line_and_the_same_bits(
        self, model: PreTrainedModel, when: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def failing(step, arguments):
            if when == "after it":
                step(*arguments)
            raise RuntimeError("operation not permitted\nwhen recording")

        expected = sample(model)
        monkeypatch.setattr(recorder, "_traced", failing)
        said: list[str] = []
        sampler = SlotEngine(model, stop_tokens=STOPS, slots=7, say=said.append)
        assert sampler.sample(PROMPTS, SAMPLED, seed=0) == expected
        assert said == [
            "note: decode steps are not recorded, which is slower: RuntimeError: operation not permitted when recording"
        ]
        assert sampler._recorder.replays == {}

    @pytest.mark.parametrize("hidden", [False, True])
    def test_running_out_of_memory_is_said_as_it_is(
        self, model: PreTrainedModel, hidden: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def failing(*_):
            try:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            finally:
                if hidden:
                    raise RuntimeError("capture was invalidated")

        monkeypatch.setattr(recorder, "_traced", failing)
        with pytest.raises(torch.OutOfMemoryError):
            sample(model)


@pytest.mark.gpu
class TestOnAGpu:
    @pytest.mark.parametrize("params", [GREEDY, SamplingParams(temperature=0.7, top_p=0.9, top_k=20, max_tokens=50)])
    @pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama", "gemma"])
    def test_graphs_give_the_tokens_of_eager_steps(
        self, architecture: str, params: SamplingParams, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = random_model(architecture).cuda()
        sampler = SlotEngine(model, stop_tokens=STOPS, slots=7)
        sampler.sample(PROMPTS, params, seed=0)
        replayed = sampler.sample(PROMPTS, params, seed=0)
        assert sampler._recorder.replays
        never_recorded(monkeypatch)
        monkeypatch.setitem(engine_module.STEPS, "cuda", 1)
        for response, expected in zip(replayed, sample(model, params), strict=True):
            assert (response.tokens, response.truncated) == (expected.tokens, expected.truncated)
            assert response.logprobs == pytest.approx(expected.logprobs, abs=1e-4)

    def test_greedy_tokens_equal_those_of_generate(self) -> None:
        model = random_model().cuda()
        responses = SlotEngine(model, stop_tokens=(1,), slots=3).sample(PROMPTS, GREEDY, seed=0)
        for prompt, response in zip(PROMPTS, responses, strict=True):
            ids = torch.tensor([prompt], device="cuda")
            expected = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=50)
            assert response.tokens == expected[0, len(prompt) :].tolist()

    def test_graphs_follow_weights_that_change_in_place(self) -> None:
        model = random_model().cuda()
        sampler = SlotEngine(model, stop_tokens=STOPS, slots=7)
        sampler.sample(PROMPTS, SAMPLED, seed=0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.7)
        after = sampler.sample(PROMPTS, SAMPLED, seed=0)
        assert [r.tokens for r in after] == [r.tokens for r in sample(model)]

    def test_half_precision_gives_logprobs_in_float32(self) -> None:
        model = random_model(scale=2.0).to("cuda", torch.bfloat16)
        for response, prompt in zip(sample(model), PROMPTS, strict=True):
            ids = torch.tensor([prompt + response.tokens], device="cuda")
            with torch.no_grad():
                logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
            fresh = torch.log_softmax(logits / 0.7, -1).gather(-1, ids[0, len(prompt) :, None])[:, 0]
            assert response.logprobs == pytest.approx(fresh.tolist(), abs=0.1)
