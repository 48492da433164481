"""A server that means ill: its answer is an answer, or one line; in time, of bounded size, without the key."""

import json
import time

import pytest
from tests.evaluation.helpers import of_server, recipe_in
from tests.hostile.raw_server import completion, raw_server, reply

from fipo.cli import main
from fipo.data.problem import Problem
from fipo.errors import RunStopped, UserError
from fipo.evaluation.client import KEY
from fipo.evaluation.server import ServedModel

SECRET = "sk-0123456789abcdef"
PROBLEM = Problem(id="1", prompt="2+3=", answer="5", source="here")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv(KEY, raising=False)
    monkeypatch.setattr("fipo.evaluation.client.LONGEST_PAUSE", 0.05)
    with raw_server() as running:
        yield running


def answer(server, tmp_path, **settings):
    """Its answer to one problem, and the seconds that it took."""
    usual = {"server__timeout_seconds": "1.0", "server__retries": "0", "server__concurrency": "1"}
    recipe = recipe_in(tmp_path, of_server(server.url), **usual | settings)
    began = time.monotonic()
    (answered,) = ServedModel(recipe, recipe.server).answer([(PROBLEM, 0)], lambda _: None)
    return answered, time.monotonic() - began


def test_a_good_answer_is_taken(server, tmp_path):
    server.answers = [reply(completion())]
    answered, _ = answer(server, tmp_path)
    assert (answered.text, answered.tokens, answered.truncated) == ("so 5", 3, False)


DEEP = b"[" * 200_000 + b"]" * 200_000
NO_ANSWERS = {
    "not json": b"<html>",
    "empty": b"",
    "nul": b"\0" * 100,
    "deep lists": DEEP,
    "deep tables": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a deep text": completion("X").replace(b'"X"', DEEP),
    "a text that the parser takes deep": completion("X").replace(b'"X"', b"[" * 900 + b"]" * 900),
    "null": b"null",
    "a number": b"1",
    "a text": b'"choices"',
    "nan": b"NaN",
    "no choices": b'{"choices": [], "usage": {"completion_tokens": 1}}',
    "choices as a table": b'{"choices": {"0": 1}, "usage": {"completion_tokens": 1}}',
    "a choice as a text": b'{"choices": ["text text"], "usage": {"completion_tokens": 1}}',
    "a list as text": completion([{"type": "text", "text": "5"}]),
    "a number as text": completion(5),
    "a table as the finish reason": completion(finish_reason={"a": 1}),
    "true tokens": completion(tokens=True),
    "negative tokens": completion(tokens=-5),
    "tokens in half": completion(tokens=2.5),
    "10^400 tokens": completion(tokens=10**400),
    "10^5000 tokens": completion(tokens=7).replace(b"7", b"1" + b"0" * 5000),
    "infinite tokens": completion(tokens=7).replace(b"7", b"1e999"),
    "latin-1": completion("X").replace(b"X", b"\xff"),
}


@pytest.mark.parametrize("case", NO_ANSWERS)
def test_what_is_no_answer_stops_the_run_with_one_short_line(case, server, tmp_path):
    server.answers = [reply(NO_ANSWERS[case])]
    with pytest.raises(RunStopped) as stopped:
        answer(server, tmp_path)
    said = str(stopped.value)
    assert said.startswith(f"{server.url}/completions: a reply must ") and ", got " in said
    assert len(said) < 400 and server.posts == 1


GOOD_ENOUGH = {
    "UTF-16": (completion().decode().encode("utf-16"), "so 5"),
    "null as text": (completion(None), ""),
    "half a character": (completion("\ud800 5"), "\ud800 5"),
    "escape sequences": (completion("\x1b[2J 5\0"), "\x1b[2J 5\0"),
    "keys twice": (completion().replace(b"{", b'{"choices": [], ', 1), "so 5"),
}


@pytest.mark.parametrize("case", GOOD_ENOUGH)
def test_an_odd_answer_is_an_answer(case, server, tmp_path):
    body, text = GOOD_ENOUGH[case]
    server.answers = [reply(body)]
    assert answer(server, tmp_path)[0].text == text


BROKEN = {
    "another protocol": b"garbage\r\n\r\n",
    "a long status": b"HTTP/1.1 200 " + b"a" * 100_000 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
    "a status in words": b"HTTP/1.1 abc OK\r\n\r\n",
    "chunks of no number": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
    "a chunk cut short": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhello",
    "a body cut short": reply(completion(), length=5000),
    "an endless body of a length": reply(completion(), length=10**15),
    "nothing": b"",
    "interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    "status 600": reply(b"odd", "600 Odd"),
    "status 503": reply(b"\x1b[2J", "503 \x1b]0;pwned\x07"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_answer_is_asked_for_again(case, server, tmp_path):
    server.answers = [BROKEN[case], reply(completion())]
    assert answer(server, tmp_path, server__retries="1")[0].text == "so 5"
    assert server.posts == 2


@pytest.mark.parametrize("after", ["0", "-5", "9" * 5000, "\u00b2", "soon", "1e9"])
def test_the_wait_that_a_server_asks_for_is_bounded(after, server, tmp_path):
    server.answers = [reply(b"slow", "429 Slow", Retry_After=after), reply(completion())]
    assert answer(server, tmp_path, server__retries="1")[0].text == "so 5"


DRIPS = {
    "of the body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
    "of the headers": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "of a header": (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
    "of the status": (b"HTTP/1.1 200 ", b"O"),
    "of chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "of the body of an error": (b"HTTP/1.1 500 No\r\nContent-Length: 100000\r\n\r\n", b"!"),
    "of interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize("case", DRIPS)
def test_drops_do_not_put_the_deadline_off(case, server, tmp_path):
    server.answers, server.drops, server.pause = [DRIPS[case][0]], DRIPS[case][1], 0.1
    began = time.monotonic()
    with pytest.raises(RunStopped, match="no answer in 1 attempts, the last one: timed out"):
        answer(server, tmp_path)
    assert 1.0 <= time.monotonic() - began < 3.0


def test_an_answer_has_a_largest_size(server, tmp_path):
    server.answers = [b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 2**21]
    with pytest.raises(RunStopped, match=r"a reply must have at most 1,052,672 bytes, got more"):
        answer(server, tmp_path, sampling__max_response_tokens="16", server__timeout_seconds="20.0")


ECHOES = {
    "a refusal": reply(b"you sent KEY", "400 KEY"),
    "a refusal, cut in the key": reply(b"x" * 1980 + b"KEY", "400 No"),
    "a failure": reply(b"you sent KEY", "500 KEY"),
    "no answer": reply(b'{"KEY": 1}'),
    "no JSON": reply(b"KEY"),
    "a status in words": b"HTTP/1.1 KEY OK\r\n\r\n",
}


@pytest.mark.parametrize("case", ECHOES)
def test_a_key_that_comes_back_is_not_shown(case, server, tmp_path, monkeypatch):
    monkeypatch.setenv(KEY, SECRET)
    server.answers, server.echo_key = [ECHOES[case]], True
    with pytest.raises((RunStopped, UserError)) as stopped:
        answer(server, tmp_path)
    assert SECRET[:8] not in str(stopped.value)


def test_a_key_in_an_answer_is_not_written_down(server, tmp_path, monkeypatch):
    monkeypatch.setenv(KEY, SECRET)
    server.answers = [reply(completion(json.loads(f'"5 \\u0073{SECRET[1:]}"')))]
    assert answer(server, tmp_path)[0].text == "5 ***"
    monkeypatch.setenv(KEY, "EMPTY")  # as for a server without keys: no secret
    server.answers = [reply(completion("EMPTY"))]
    assert answer(server, tmp_path)[0].text == "EMPTY"


NO_KEYS = {
    "a line feed": SECRET + "\n",
    "a carriage return": SECRET + "\r",
    "a header": SECRET + "\nX: y",
    "a tab": SECRET + "\t",
    "a space": " ",
    "beyond latin-1": SECRET + "\u2603",
    "latin-1": SECRET + "\u00e9",
    "a byte that is no UTF-8": SECRET + "\udc80",
    "a byte order mark": "\ufeff" + SECRET,
    "quotation marks of a word processor": f"\u201c{SECRET}\u201d",
    "far too long": SECRET * 1000,
}


@pytest.mark.parametrize("case", NO_KEYS)
def test_a_key_that_no_header_can_hold_is_one_line_without_it(case, server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(KEY, NO_KEYS[case])
    path = tmp_path / "recipe.toml"
    path.write_text(of_server(server.url))
    assert main(["eval", str(path), "--output.folder", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("fipo: OPENAI_API_KEY must ") and said.count("\n") == 1
    assert SECRET[:8] not in said and server.posts == 0
