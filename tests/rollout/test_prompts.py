from datetime import date

import pytest
from tokenizers import processors

from fipo.data.problem import Problem
from fipo.errors import UserError
from fipo.models.tokenizer import make_tokenizer
from fipo.recipe.table import validate
from fipo.rollout import prompts
from fipo.rollout.prompts import BadPrompt, Example, Prompting, encode, on_its_day, rendered, stopping_at

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


def with_special_tokens(single: str):
    """A tokenizer that puts BOS or EOS around every text."""
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<bos>"})
    special = [("<bos>", tokenizer.bos_token_id), ("<eos>", tokenizer.eos_token_id)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
    return tokenizer


@pytest.mark.parametrize("single", ["<bos> $A", "<bos> $A <eos>", "<bos> $A <eos> <eos>"])
@pytest.mark.parametrize("written", ["2+2=", "<bos>2+2="])
def test_before_a_raw_prompt_stands_one_bos_and_behind_it_nothing(single, written):
    tokenizer = with_special_tokens(single)
    assert encode(problem(written), tokenizer, Prompting()) == tokenizer.convert_tokens_to_ids(["<bos>", *"2+2="])


def test_an_empty_prompt_is_bos_alone():
    tokenizer = with_special_tokens("<bos> $A <eos>")
    assert encode(problem(""), tokenizer, Prompting()) == [tokenizer.bos_token_id]


def test_an_end_that_the_prompt_itself_has_stays():
    tokenizer = with_special_tokens("<bos> $A <eos>")
    tokens = tokenizer.convert_tokens_to_ids(["<bos>", "1", "<eos>"])
    assert encode(problem("1<eos>"), tokenizer, Prompting()) == tokens


def test_a_tokenizer_adds_nothing_to_what_a_template_makes():
    tokenizer = with_special_tokens("<bos> $A <eos>")
    tokenizer.chat_template = TEMPLATE
    assert encode(problem("2+2="), tokenizer, CHATTING) == tokenizer.convert_tokens_to_ids(list("+2+2=#-"))


LOSING = {
    "parts": ("{% for m in messages %}{{ m['content']['text'] }}{% endfor %}=", "user"),
    "by chance": ("1+1= {% for m in messages %}{{ m['content']['text'] }}{% endfor %}", "user"),
    "thoughts": ("{% for m in messages %}{{ m['content'].split('</think>')[-1] }}{% endfor %}", "assistant"),
    "system": ("{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}{% endfor %}", "system"),
    "the first": ("{{ messages[-1]['content'] }}", "user"),
}


@pytest.mark.parametrize("how", LOSING)
def test_a_template_that_leaves_something_out_is_refused_with_whom_and_what(tokenizer, monkeypatch, how):
    template, who = LOSING[how]
    monkeypatch.setattr(tokenizer, "chat_template", template)
    prompting = Prompting(prompt_format="chat", examples=[Example(prompt="1+2=", response="<think>1,2;</think>3")])
    asked = problem([{"role": "system", "content": "12"}, {"role": "user", "content": "1+1="}])
    with pytest.raises(BadPrompt, match=f"^the chat template leaves out what ({who}|system) says: "):
        encode(asked, tokenizer, prompting)


def test_a_template_may_trim_what_it_is_given(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", "{% for m in messages %}{{ m['content'] | trim }}{% endfor %}")
    assert tokenizer.decode(encode(problem("  2+2=\n"), tokenizer, CHATTING)) == "2+2="


@pytest.mark.parametrize(
    ("template", "kind", "said"),
    [
        ("{{ messages[0]['content'] + 1 }}", BadPrompt, "the chat template fails: TypeError: can only concatenate str"),
        ("{{ messages[0]['content'][9]['x'].y }}", BadPrompt, "the chat template refuses the prompt: "),
        ("{% for m in messages %}{{ m['content'] }{% endfor %}", UserError, "the chat template cannot be read: line 1"),
        ({"tool_use": "x", "rag": "y"}, UserError, 'data.prompt_format: "chat" needs a chat template named "default"'),
    ],
)
def test_a_template_that_cannot_be_filled_in_is_one_line(tokenizer, monkeypatch, template, kind, said):
    monkeypatch.setattr(tokenizer, "chat_template", template)
    with pytest.raises(UserError) as error:
        encode(problem("2+2="), tokenizer, CHATTING)
    assert type(error.value) is kind
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_a_template_that_does_not_end_is_refused_within_its_deadline(tokenizer, monkeypatch):
    monkeypatch.setattr(prompts, "TEMPLATE_SECONDS", 0.1)
    endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"
    monkeypatch.setattr(tokenizer, "chat_template", endless)
    with pytest.raises(
        UserError, match=r"^the chat template must be filled in within 0\.1 s and 512 MiB: it does not end$"
    ):
        encode(problem("2+2="), tokenizer, CHATTING)


def test_a_template_whose_one_operation_would_not_end_is_refused_at_once(tokenizer, monkeypatch):
    monkeypatch.setattr(
        tokenizer, "chat_template", "{{ 'x' * 10**12 }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    )
    with pytest.raises(
        BadPrompt, match=r"^the chat template refuses the prompt: an operation must make at most 1000000 "
    ):
        encode(problem("2+2="), tokenizer, CHATTING)


def test_a_template_may_take_its_own_switches_out_of_a_system_message(tokenizer, monkeypatch):
    template = "{% for m in messages %}{{ m['content'].replace('/no_think', '') }}{% endfor %}"
    monkeypatch.setattr(tokenizer, "chat_template", template)
    asked = problem([{"role": "system", "content": "12/no_think"}, {"role": "user", "content": "1+1="}])
    assert tokenizer.decode(encode(asked, tokenizer, CHATTING)) == "121+1="


DATED = "{{ strftime_now('%d %b %Y') }}{% for m in messages %}{{ m['content'] }}{% endfor %}"


def test_a_template_that_asks_for_today_gets_the_date_of_the_run(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", DATED)
    first, second = (Prompting(prompt_format="chat", date=day) for day in ("2026-01-31", "2026-02-01"))
    assert rendered(problem("2+2="), tokenizer, first) == "31 Jan 20262+2="
    assert rendered(problem("2+2="), tokenizer, second) == "01 Feb 20262+2="
    assert encode(problem("2+2="), tokenizer, first) != encode(problem("2+2="), tokenizer, second)


def test_the_date_is_the_recipes_or_that_of_what_was_begun_or_todays():
    given, today = Prompting(prompt_format="chat", date="2026-01-31"), date.today().isoformat()
    assert on_its_day(given, {"date": "2025-05-05"}) is given
    assert on_its_day(CHATTING, {"date": "2025-05-05"}).date == "2025-05-05"
    assert on_its_day(CHATTING, {}).date is None  # begun by a version without dates
    assert on_its_day(CHATTING, "damaged").date is None
    assert on_its_day(CHATTING, None).date >= today
    assert on_its_day(Prompting(), None).date is None


def test_a_date_that_is_none_is_refused():
    with pytest.raises(UserError, match=r'^recipe: date: must be a date such as "2026-01-31"'):
        validate(Prompting, {"date": "2026-02-30"}, "recipe")


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
