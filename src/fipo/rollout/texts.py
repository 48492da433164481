"""What responses say."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from fipo.rollout.sampler import Response


def texts_of(
    responses: Sequence[Response], tokenizer: PreTrainedTokenizerBase, stop_tokens: Sequence[int]
) -> list[str]:
    """The responses as they were written, other special tokens included: a tag such as <answer> may be one.

    Only padding, the beginning of a text, and the stop tokens are left out; of these the special ones, as a stop token
    like "\\n" is a part of what is written.
    """
    ends = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}
    ends |= {token for token in stop_tokens if tokenizer.decode([token], skip_special_tokens=True) == ""}
    kept = [[token for token in response.tokens if token not in ends] for response in responses]
    return tokenizer.batch_decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
