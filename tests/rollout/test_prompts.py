import pytest

from fipo.errors import UserError
from fipo.models.tokenizer import make_tokenizer
from fipo.rollout.prompts import BadPrompt, encode
from fipo.tasks.problem import Problem

# "+" opens the user's turn, "-" the assistant's and "?" any other; "#" ends a turn.
TEMPLATE = (
    "{% for message in messages %}"
    "{{ {'user': '+', 'assistant': '-'}.get(message['role'], '?') }}{{ message['content'] }}#"
    "{% endfor %}{% if add_generation_prompt %}-{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def problem(prompt):
    return Problem(id="test/1", prompt=prompt, answer="4", source="test")


CHAT = [{"role": "system", "content": "12"}, {"role": "user", "content": "2+2="}]


def test_a_raw_prompt_is_the_tokens_of_its_text_and_no_more(tokenizer):
    tokens = encode(problem("2+2="), tokenizer, "raw")
    assert tokens == tokenizer.convert_tokens_to_ids(["2", "+", "2", "="])
    assert type(tokens) is list


def test_a_raw_prompt_of_a_chat_is_its_contents_without_any_template(tokenizer):
    assert encode(problem(CHAT), tokenizer, "raw") == tokenizer.encode("12\n2+2=")


def test_a_chat_goes_through_the_template_with_the_assistants_turn_opened(tokenizer):
    tokens = encode(problem(CHAT), tokenizer, "chat")
    assert tokenizer.decode(tokens) == "?12#+2+2=#-"
    assert type(tokens) is list and all(type(token) is int for token in tokens)


def test_a_text_in_a_chat_is_what_the_user_says(tokenizer):
    as_text, as_message = problem("2+2="), problem([{"role": "user", "content": "2+2="}])
    assert tokenizer.decode(encode(as_text, tokenizer, "chat")) == "+2+2=#-"
    assert encode(as_text, tokenizer, "chat") == encode(as_message, tokenizer, "chat")


def test_a_prompt_without_tokens_is_refused(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", "{{ '' }}")
    with pytest.raises(BadPrompt) as error:
        encode(problem("2+2="), tokenizer, "chat")
    assert str(error.value) == "a prompt must have at least one token, got none for '2+2='"


def test_a_prompt_that_the_template_refuses_is_refused_in_one_line(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", "{{ raise_exception('Roles must\nalternate') }}")
    with pytest.raises(BadPrompt) as error:
        encode(problem(CHAT), tokenizer, "chat")
    assert str(error.value) == "the chat template refuses the prompt: Roles must alternate"


def test_a_chat_without_a_template_is_no_fault_of_the_prompt():
    with pytest.raises(UserError, match="needs a tokenizer with a chat template") as error:
        encode(problem("2+2="), make_tokenizer(), "chat")
    assert not isinstance(error.value, BadPrompt)
