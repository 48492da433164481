import pytest

from fipo.data.problem import Problem
from fipo.errors import UserError
from fipo.models.tokenizer import make_tokenizer
from fipo.rollout.prompts import BadPrompt, Example, Prompting, encode, stopping_at

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


CHATTING = Prompting(prompt_format="chat")
CHAT = [{"role": "system", "content": "12"}, {"role": "user", "content": "2+2="}]


def test_a_raw_prompt_is_the_tokens_of_its_text_and_no_more(tokenizer):
    tokens = encode(problem("2+2="), tokenizer, Prompting())
    assert tokens == tokenizer.convert_tokens_to_ids(["2", "+", "2", "="])
    assert type(tokens) is list


def test_a_raw_prompt_of_a_chat_is_its_contents_without_any_template(tokenizer):
    assert encode(problem(CHAT), tokenizer, Prompting()) == tokenizer.encode("12\n2+2=")


def test_a_chat_goes_through_the_template_with_the_assistants_turn_opened(tokenizer):
    tokens = encode(problem(CHAT), tokenizer, CHATTING)
    assert tokenizer.decode(tokens) == "?12#+2+2=#-"
    assert type(tokens) is list and all(type(token) is int for token in tokens)


def test_a_text_in_a_chat_is_what_the_user_says(tokenizer):
    as_text, as_message = problem("2+2="), problem([{"role": "user", "content": "2+2="}])
    assert tokenizer.decode(encode(as_text, tokenizer, CHATTING)) == "+2+2=#-"
    assert encode(as_text, tokenizer, CHATTING) == encode(as_message, tokenizer, CHATTING)


def test_a_prompt_without_tokens_is_refused(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", "{{ '' }}")
    with pytest.raises(BadPrompt) as error:
        encode(problem("2+2="), tokenizer, CHATTING)
    assert str(error.value) == "a prompt must have at least one token, got none for '2+2='"


def test_a_prompt_that_the_template_refuses_is_refused_in_one_line(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", "{{ raise_exception('Roles must\nalternate') }}")
    with pytest.raises(BadPrompt) as error:
        encode(problem(CHAT), tokenizer, CHATTING)
    assert str(error.value) == "the chat template refuses the prompt: Roles must alternate"


def test_a_chat_without_a_template_is_no_fault_of_the_prompt():
    with pytest.raises(UserError, match="needs a tokenizer with a chat template") as error:
        encode(problem("2+2="), make_tokenizer(), CHATTING)
    assert not isinstance(error.value, BadPrompt)


EXAMPLES = [Example(prompt="1+1=", response="2;"), Example(prompt="1+2=", response="3;")]


def test_raw_examples_stand_before_the_question_with_nothing_between_them(tokenizer):
    tokens = encode(problem("2+2="), tokenizer, Prompting(examples=EXAMPLES))
    assert tokens == tokenizer.encode("1+1=2;1+2=3;2+2=")


def test_examples_in_a_chat_are_turns_after_the_system_message(tokenizer):
    prompting = Prompting(prompt_format="chat", examples=EXAMPLES[:1])
    assert tokenizer.decode(encode(problem("2+2="), tokenizer, prompting)) == "+1+1=#-2;#+2+2=#-"
    assert tokenizer.decode(encode(problem(CHAT), tokenizer, prompting)) == "?12#+1+1=#-2;#+2+2=#-"


class Words:
    """A tokenizer of five words."""

    words = ("a", "\n", "a\n", "\n\n", "b")

    def __len__(self):
        return len(self.words)

    def batch_decode(self, tokens):
        return [self.words[token] for [token] in tokens]


def test_a_response_stops_at_every_token_with_the_text_in_it():
    assert stopping_at(["\n"], Words(), key="rollout.stop") == [1, 2, 3]
    assert stopping_at(["\n\n", "b"], Words(), key="rollout.stop") == [3, 4]
    assert stopping_at([], Words(), key="rollout.stop") == []


def test_a_stop_that_is_not_a_token_is_refused_in_one_line():
    with pytest.raises(UserError) as error:
        stopping_at(["\n", "ab"], Words(), key="rollout.stop")
    assert str(error.value) == "rollout.stop: each must be a single token of the model, got 'ab'"
