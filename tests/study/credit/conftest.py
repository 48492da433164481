"""The base model of the relays with a few groups of its responses, packed, and their truth."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from fipo.data.made.relay import relay
from fipo.grading.answers.relay import grade_relay
from fipo.models.loading import load, stop_tokens
from fipo.rollout.engine.select import make_sampler
from fipo.rollout.groups import PolicyRoller
from fipo.rollout.prompts import Prompting
from fipo.rollout.sampler import SamplingParams
from fipo.study.credit.policy import WHOLE, packed
from fipo.study.credit.truth import exact_truth
from fipo.telemetry.clock import Clock

ROOT = Path(__file__).parents[3]


@dataclass
class Sampled:
    model: object
    tokenizer: object
    groups: list
    pack: object
    parts: list  # the same in packs of few responses
    truth: object
    trainer: object  # as far as branches look at one


@pytest.fixture(scope="session")
def sampled():
    model, tokenizer = load(str(ROOT / "models" / "relay"))
    roller = PolicyRoller(
        sampler=make_sampler(model, stop_tokens=stop_tokens(model, tokenizer), slots=64),
        stop_tokens=stop_tokens(model, tokenizer),
        tokenizer=tokenizer,
        prompting=Prompting(),
        grade=lambda answers: [grade_relay(*one) for one in answers],
    )
    params = SamplingParams(temperature=1.0, top_p=1.0, top_k=0, max_tokens=16)
    groups = roller.groups(relay("train", 12, filler=0), 4, params, 0, Clock())
    groups = [group for group in groups if group.mixed]
    table = SimpleNamespace(max_response_tokens=16, params=lambda tokens: replace(params, max_tokens=tokens))
    recipe = SimpleNamespace(rollout=table)
    trainer = SimpleNamespace(model=model, roller=roller, tokenizer=tokenizer, recipe=recipe, layout="packed")
    [one], parts = packed(trainer, groups, WHOLE), packed(trainer, groups, 40)
    return Sampled(model, tokenizer, groups, one, parts, exact_truth(model, tokenizer, one, groups), trainer)
