import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from fipo.models.corpus import ALPHABET
from fipo.models.tokenizer import EOS, PAD, UNKNOWN, make_tokenizer

TOKENIZER = make_tokenizer()


@pytest.mark.parametrize("character", ALPHABET)
def test_every_character_of_the_alphabet_is_one_token_and_comes_back(character):
    (token,) = TOKENIZER.encode(character)
    assert TOKENIZER.decode([token]) == character


def test_no_two_characters_share_a_token_and_none_is_special():
    tokens = [TOKENIZER.encode(character)[0] for character in ALPHABET]
    assert len({*tokens, *TOKENIZER.all_special_ids}) == len(ALPHABET) + 3 == len(TOKENIZER)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(text=st.text(st.sampled_from(ALPHABET), max_size=60))
def test_a_text_comes_back_from_as_many_tokens_as_it_has_characters(text):
    tokens = TOKENIZER.encode(text)
    assert len(tokens) == len(text)
    assert TOKENIZER.decode(tokens) == text


@pytest.mark.parametrize("character", ["a", " ", "\n", "é", "\u0663", "😀"])
def test_any_other_character_becomes_unknown(character):
    assert TOKENIZER.encode(f"1{character}2") == TOKENIZER.convert_tokens_to_ids(["1", UNKNOWN, "2"])


def test_end_and_padding_are_two_tokens_that_no_text_contains():
    assert TOKENIZER.eos_token == EOS and TOKENIZER.pad_token == PAD
    assert len({TOKENIZER.eos_token_id, TOKENIZER.pad_token_id, TOKENIZER.unk_token_id}) == 3
    assert not {TOKENIZER.eos_token_id, TOKENIZER.pad_token_id} & set(TOKENIZER.encode(ALPHABET))


def test_decoding_leaves_end_and_padding_out_when_asked():
    tokens = [TOKENIZER.pad_token_id, *TOKENIZER.encode("#35"), TOKENIZER.eos_token_id]
    assert TOKENIZER.decode(tokens, skip_special_tokens=True) == "#35"
    assert TOKENIZER.decode(tokens) == "<pad>#35<eos>"


def test_encoding_adds_no_token_of_its_own():
    assert TOKENIZER.encode("") == []


def test_a_saved_tokenizer_loads_with_transformers_and_is_the_same(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == TOKENIZER.get_vocab()
    assert loaded.encode(ALPHABET) == TOKENIZER.encode(ALPHABET)
    assert (loaded.eos_token, loaded.pad_token, loaded.padding_side) == (EOS, PAD, "left")
