import itertools

import pytest
import torch

from fipo.models.corpus import way_of
from fipo.models.make_tiny import IGNORED, SEED, TOKENS_PER_BATCH, batches, make_model, pretrain
from fipo.models.tokenizer import make_tokenizer
from fipo.tasks.signed_sums import split_of


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="module")
def some_batches(tokenizer):
    return list(itertools.islice(batches(tokenizer), 12))


def test_the_model_has_about_a_million_parameters_and_stops_at_the_end_token(tokenizer):
    model = make_model(tokenizer)
    assert 700_000 < sum(parameter.numel() for parameter in model.parameters()) < 1_000_000
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
        assert input_ids.numel() <= TOKENS_PER_BATCH
        assert (input_ids == tokenizer.pad_token_id).float().mean() < 0.35


def test_batches_hold_every_way_of_solving(tokenizer, some_batches):
    texts = [tokenizer.decode(row) for input_ids, _ in some_batches for row in input_ids]
    assert {way_of(text.split("=", 1)[1]) for text in texts} == {"direct", "coarse", "fine", "checked"}


def test_the_stream_of_batches_is_always_the_same(tokenizer, some_batches):
    for one, other in zip(some_batches[0], next(batches(tokenizer)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_pretraining_changes_the_weights_and_gives_the_same_bits_again(tokenizer, capsys):
    (first, _), (again, _) = pretrain(steps=2), pretrain(steps=2)
    torch.manual_seed(SEED)
    untrained = make_model(tokenizer)
    for one, other, before in zip(*(model.parameters() for model in (first, again, untrained)), strict=True):
        assert torch.equal(one, other)
        assert not torch.equal(one, before)
