from pathlib import Path

import pytest
import torch

from fipo.data.made.signed_sums import split_of
from fipo.models import make_tiny
from fipo.models.corpus import HABITS, LESSONS, RELAY_LONG_HABITS, RELAY_LONG_LESSONS, way_of
from fipo.models.loading import EMBEDDED, load
from fipo.models.make_tiny import IGNORED, PEAK_LEARNING_RATES, POOL, TOKENS_PER_BATCH, batches, make_model, pretrain
from fipo.models.tokenizer import make_tokenizer

TOKENS = TOKENS_PER_BATCH["embedded"]


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="module")
def many_batches(tokenizer):
    """More than one pool of examples gives."""
    return list(batches(HABITS, 45, tokenizer, 0, tokens=TOKENS))


@pytest.fixture(scope="module")
def some_batches(many_batches):
    return many_batches[:12]


def test_the_model_has_under_a_million_parameters_and_stops_at_the_end_token(tokenizer):
    model = make_model(tokenizer)
    assert 700_000 < model.num_parameters() < 1_000_000
    assert model.config.eos_token_id == tokenizer.eos_token_id


def test_a_batch_trains_on_the_response_and_its_end_and_on_nothing_else(tokenizer, some_batches):
    for input_ids, labels in some_batches:
        for row, targets in zip(input_ids, labels, strict=True):
            text = tokenizer.decode(row[row != tokenizer.pad_token_id])
            question, response = text[: text.index("=") + 1], text[text.index("=") + 1 :]
            assert split_of(question) == "pretrain"
            assert tokenizer.decode(targets[targets != IGNORED]) == response
            assert response.endswith("<eos>")
            assert (targets == IGNORED)[: len(question)].all()


def test_a_batch_keeps_within_its_budget_of_tokens_and_pads_little(tokenizer, some_batches):
    for input_ids, _ in some_batches:
        assert input_ids.numel() <= TOKENS
        assert (input_ids == tokenizer.pad_token_id).float().mean() < 0.35


def test_batches_hold_every_way_of_solving(tokenizer, some_batches):
    texts = [tokenizer.decode(row) for input_ids, _ in some_batches for row in input_ids]
    assert {way_of(text.split("=", 1)[1]) for text in texts} == set(HABITS.ways)


def test_the_stream_of_batches_is_as_long_as_asked_and_always_the_same(tokenizer, some_batches):
    again = list(batches(HABITS, 2, tokenizer, 0, tokens=TOKENS))
    assert len(again) == 2
    for first, second in zip(again, some_batches, strict=False):
        assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_the_stream_goes_on_with_new_examples_when_a_pool_is_used_up(many_batches):
    assert len({tuple(input_ids.flatten().tolist()) for input_ids, _ in many_batches}) == 45
    assert sum(len(input_ids) for input_ids, _ in many_batches) > POOL


def trained(tokenizer, corpus, steps):
    torch.manual_seed(0)
    model = make_model(tokenizer)
    pretrain(model, tokenizer, corpus, steps, peak_learning_rate=PEAK_LEARNING_RATES["embedded"], tokens=TOKENS, seed=0)
    return list(model.parameters())


@pytest.mark.slow
def test_pretraining_changes_the_weights_and_gives_the_same_bits_again(tokenizer, capsys):
    torch.manual_seed(0)
    untrained = list(make_model(tokenizer).parameters())
    first, again = trained(tokenizer, LESSONS, 2), trained(tokenizer, LESSONS, 2)
    for one, other, before in zip(first, again, untrained, strict=True):
        assert torch.equal(one, other)
        assert not torch.equal(one, before)


@pytest.mark.parametrize("base", ["embedded", "long_sums", "relay"])
def test_the_base_for_long_sums_goes_on_from_the_embedded_model_and_the_others_begin_with_noise(base, monkeypatch):
    monkeypatch.setitem(make_tiny.ROUNDS, base, ())
    model, tokenizer = make_tiny.make(base)
    state, embedded = model.state_dict(), load(EMBEDDED)[0].state_dict()
    assert len(tokenizer) == model.config.vocab_size
    equal = {name: state[name].equal(weights) for name, weights in embedded.items() if "norm" not in name}
    assert set(equal.values()) == {base == "long_sums"}


def test_the_base_for_long_relays_goes_on_from_the_one_for_short_ones(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setitem(make_tiny.ROUNDS, "relay_long", ())
    model, _ = make_tiny.make("relay_long")
    short = load("models/relay")[0].state_dict()
    assert all(weights.equal(short[name]) for name, weights in model.state_dict().items())
    assert {corpus.fillers for corpus in (RELAY_LONG_LESSONS, RELAY_LONG_HABITS)} == {(64,)}
