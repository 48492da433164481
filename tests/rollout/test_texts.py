import pytest
from tokenizers import AddedToken

from fipo.models.tokenizer import make_tokenizer
from fipo.rollout.sampler import Response
from fipo.rollout.texts import texts_of


@pytest.fixture(scope="module")
def tokenizer():
    """One whose tags are special tokens, as some reasoning models have them."""
    tokenizer = make_tokenizer()
    tags = [AddedToken(tag, special=True) for tag in ("<answer>", "</answer>", "<stop>", "<bos>")]
    tokenizer.add_special_tokens({"additional_special_tokens": tags[:3], "bos_token": tags[3]})
    return tokenizer


def response(tokens):
    return Response(tokens=tokens, logprobs=[-1.0] * len(tokens), truncated=False)


def text_of(text, tokenizer, stops=()):
    (said,) = texts_of([response(tokenizer.encode(text))], tokenizer, stops)
    return said


def test_tags_that_are_special_tokens_are_a_part_of_what_is_written(tokenizer):
    assert text_of("<answer>5</answer>2+2=4<eos>", tokenizer) == "<answer>5</answer>2+2=4"


def test_stop_tokens_padding_and_the_beginning_of_a_text_are_not(tokenizer):
    (stop,) = tokenizer.encode("<stop>")
    assert text_of("<bos>2+2=4<stop><pad><pad>", tokenizer, [stop]) == "2+2=4"
    assert text_of("2+2=4<stop>", tokenizer) == "2+2=4<stop>"


def test_a_stop_token_that_is_written_stays(tokenizer):
    (equals,) = tokenizer.encode("=")
    assert text_of("2+2=", tokenizer, [equals]) == "2+2="
