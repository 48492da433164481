import time

import pytest
from tests.evaluation.helpers import small_server

from fipo.errors import RunStopped, UserError
from fipo.evaluation.client import KEY, Client

BODY = {"model": "tiny", "prompt": "1+2=", "temperature": 0.0, "top_p": 1.0, "max_tokens": 4, "seed": 0}


@pytest.fixture(scope="module")
def one_server():
    with small_server() as server:
        yield server


@pytest.fixture
def server(one_server):
    one_server.failures.clear()
    one_server.requests.clear()
    one_server.key = None
    yield one_server
    one_server.released.set()


def client(server, **settings):
    usual = {"timeout_seconds": 20.0, "retries": 3, "longest_reply": 10_000, "first_pause": 0.01}
    return Client(server.url, **usual | settings)


def post(client, read=lambda reply: reply):
    return client.post("/completions", BODY, read)


def test_a_reply_is_parsed(server):
    reply = post(client(server))
    assert 1 <= reply["usage"]["completion_tokens"] <= 4
    assert server.requests == [{"path": "/v1/completions", "key": None, **BODY}]


@pytest.mark.parametrize("failures", [[429], [503, 500], ["cut"], [502, "cut", 429]])
def test_what_fails_for_a_while_is_asked_again(failures, server):
    server.failures += failures
    assert post(client(server))["choices"]
    assert len(server.requests) == len(failures) + 1


def test_a_request_that_takes_too_long_is_asked_again(server):
    server.released.clear()
    server.failures.append("hang")
    assert post(client(server, timeout_seconds=2.0))["choices"]
    assert len(server.requests) == 2


def test_after_the_last_attempt_the_run_stops_in_one_line(server):
    server.failures += [500] * 4
    with pytest.raises(RunStopped) as stopped:
        post(client(server))
    assert str(stopped.value).startswith(f"{server.url}/completions: no answer in 4 attempts, the last one: 500 ")
    assert "\n" not in str(stopped.value)


def test_the_pauses_double(server):
    server.failures += [500] * 3
    started = time.monotonic()
    post(client(server, first_pause=0.05))
    assert time.monotonic() - started >= 0.05 + 0.1 + 0.2


@pytest.mark.parametrize("status", [400, 404, 422, 307])
def test_what_the_server_refuses_is_not_asked_again(status, server):
    server.failures.append(status)
    with pytest.raises(UserError) as refused:
        post(client(server))
    assert str(refused.value).startswith(f"the server at {server.url} refuses: {status} ")
    assert "no such model: tiny" in str(refused.value).replace("\\n", " ")
    assert "\n" not in str(refused.value)
    assert len(server.requests) == 1


def test_the_key_comes_from_the_environment_and_its_lack_is_named(server, monkeypatch):
    monkeypatch.delenv(KEY, raising=False)
    server.key = "Bearer secret"
    with pytest.raises(UserError, match=r"refuses: 401 .*\(the key is taken from the environment's OPENAI_API_KEY\)"):
        client(server).check()
    monkeypatch.setenv(KEY, "secret")
    client(server).check()
    post(client(server))
    assert server.requests[0]["key"] == "Bearer secret"


def test_an_address_where_nothing_answers_is_named_at_once():
    with small_server() as server:
        pass
    with pytest.raises(UserError) as refused:
        client(server).check()
    assert str(refused.value) == f"server.url: nothing answers at {server.url}: Connection refused"
