import copy

import pytest
import torch
from tests.conftest import random_model
from transformers import GenerationConfig, PreTrainedModel

from fipo.rollout.engine.generate import GenerateSampler
from fipo.rollout.engine.select import make_sampler
from fipo.rollout.sampler import SamplingParams

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [5, 6, 7]]
SAMPLED = SamplingParams(temperature=0.7, max_tokens=20)
ADVICE = [
    {"repetition_penalty": 1.3},
    {"encoder_repetition_penalty": 1.2},
    {"no_repeat_ngram_size": 2},
    {"suppress_tokens": [5, 6, 7]},
    {"begin_suppress_tokens": [5, 6, 7, 8]},
    {"min_new_tokens": 20},
    {"min_length": 60},
    {"max_length": 4},
    {"max_time": 1e-6},
    {"bad_words_ids": [[5], [6]]},
    {"sequence_bias": [[[5], 3.0]]},
    {"exponential_decay_length_penalty": [5, 1.2]},
    {"forced_bos_token_id": 7},
    {"forced_eos_token_id": 7},
    {"guidance_scale": 1.5},
    {"num_beams": 2},
    {"num_return_sequences": 2},
    {"penalty_alpha": 0.6, "top_k": 4},
    {"dola_layers": "low"},
    {"prompt_lookup_num_tokens": 3},
    {"stop_strings": ["5"]},
    {"watermarking_config": {"bias": 2.5}},
    {"temperature": 0.2, "top_k": 3, "top_p": 0.5, "min_p": 0.1, "do_sample": True},
    {"cache_implementation": "static"},
    {"use_cache": False, "return_dict_in_generate": True, "output_scores": True},
]


def asking_for(model: PreTrainedModel, advice: dict[str, object]) -> PreTrainedModel:
    for key, value in advice.items():
        setattr(model.generation_config, key, value)
    return model


@pytest.mark.parametrize("advice", ADVICE, ids=lambda advice: next(iter(advice)))
def test_what_a_generation_config_asks_for_changes_nothing_and_is_left_as_it_was(advice: dict[str, object]) -> None:
    def sampled(model: PreTrainedModel):
        return GenerateSampler(model, stop_tokens=[1, 9], batch_size=3).sample(PROMPTS, SAMPLED, seed=7)

    model = asking_for(random_model(), advice)
    before = copy.deepcopy(model.generation_config.to_dict())
    assert sampled(model) == sampled(random_model())
    assert model.generation_config.to_dict() == before


def test_what_a_generation_config_asks_for_is_named_in_one_line() -> None:
    said: list[str] = []
    advice = {"repetition_penalty": 1.3, "temperature": 0.6, "eos_token_id": [1, 5], "pad_token_id": 0}
    make_sampler(asking_for(random_model(), advice), stop_tokens=[1], slots=4, say=said.append)
    assert said == [
        "note: the model's generation config asks for repetition_penalty = 1.3, temperature = 0.6; the recipe alone "
        "says how is sampled"
    ]


def test_a_model_without_a_generation_config_is_sampled() -> None:
    model, said = random_model(), []
    model.generation_config = None
    make_sampler(model, stop_tokens=[1], slots=4, say=said.append)
    GenerateSampler(model, stop_tokens=[1], batch_size=3).sample(PROMPTS, SAMPLED, seed=7)
    assert said == []
    assert model.generation_config is None


def test_a_failure_leaves_the_generation_config_in_place() -> None:
    model = random_model()
    config: GenerationConfig = model.generation_config
    model.lm_head.weight = torch.nn.Parameter(torch.zeros(48, 3))
    with pytest.raises(RuntimeError):
        GenerateSampler(model, stop_tokens=[1], batch_size=3).sample(PROMPTS, SAMPLED, seed=7)
    assert model.generation_config is config


def test_prompts_of_one_length_are_decoded_together_and_keep_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [[5, 6, 7], [8], [9, 10, 11], [3], [4], [5, 6, 7]]
    model = random_model()
    expected = GenerateSampler(model, stop_tokens=[1], batch_size=9).sample(prompts, SAMPLED, seed=7)
    sampler = GenerateSampler(model, stop_tokens=[1], batch_size=2, mixed=False)
    batches: list[list[int]] = []
    generate = sampler._generate
    monkeypatch.setattr(
        sampler, "_generate", lambda rows, *rest: batches.append([len(row) for row in rows]) or generate(rows, *rest)
    )
    responses = sampler.sample(prompts, SAMPLED, seed=7)
    assert batches == [[3, 3], [3], [1, 1], [1]]
    assert [response.tokens for response in responses] == [response.tokens for response in expected]
