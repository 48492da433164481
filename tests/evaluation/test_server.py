import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.evaluation.helpers import of_server, recipe_in, small_server
from transformers.utils.import_utils import is_serve_available

from fipo.errors import RunStopped, UserError
from fipo.evaluation.score import score
from fipo.models.loading import EMBEDDED_FOLDER


@pytest.fixture(scope="module")
def one_server():
    with small_server() as server:
        yield server


@pytest.fixture
def server(one_server):
    one_server.failures.clear()
    one_server.requests.clear()
    return one_server


def samples_of(folder, *names):
    return [[tuple(sample[name] for name in names) for sample in line["samples"]] for line in folder.read()]


def greedy_in_this_process(folder, **overrides):
    recipe = recipe_in(folder, sampling__temperature="0.0", output__name="local", **overrides)
    return samples_of(score(recipe), "text", "tokens", "truncated", "outcome", "vote")


def test_a_server_and_this_process_give_the_same_greedy_answers(server, tmp_path):
    folder = score(recipe_in(tmp_path, of_server(server.url), sampling__temperature="0.0"))
    assert samples_of(folder, "text", "tokens", "truncated", "outcome", "vote") == greedy_in_this_process(tmp_path)
    assert folder.read_summary()["answered_by"] == {"url": server.url, "model": "tiny"}


def test_every_sample_is_a_request_with_the_values_of_the_recipe_and_a_seed_of_its_own(server, tmp_path):
    folder = score(recipe_in(tmp_path, of_server(server.url), sampling__top_p="0.7", sampling__temperature="0.9"))
    assert len(server.requests) == 6 * 3
    assert {request["path"] for request in server.requests} == {"/v1/completions"}
    assert {(r["temperature"], r["top_p"], r["max_tokens"]) for r in server.requests} == {(0.9, 0.7, 24)}
    assert not any("top_k" in request for request in server.requests)
    seeds = {sample["seed"] for line in folder.read() for sample in line["samples"]}
    assert {request["seed"] for request in server.requests} == seeds
    assert len(seeds) == 18 and max(seeds) < 2**31


def test_chat_sends_messages(server, tmp_path):
    score(recipe_in(tmp_path, of_server(server.url), data__prompt_format="chat", sampling__top_k="5"))
    assert {request["path"] for request in server.requests} == {"/v1/chat/completions"}
    assert {request["messages"][0]["role"] for request in server.requests} == {"user"}
    assert {request["top_k"] for request in server.requests} == {5}


def test_failures_of_the_server_change_no_result_and_what_is_answered_is_not_asked_again(server, tmp_path):
    text = of_server(server.url).replace('"tiny"\n', '"tiny"\nconcurrency = 1\nretries = 2\n')
    whole = score(recipe_in(tmp_path, text, output__name="whole"))
    broken = recipe_in(tmp_path, text, output__name="broken", server__retries="0", server__concurrency="1")
    server.requests.clear()
    server.failures += [None] * 4 + [500]
    with pytest.raises(RunStopped, match="no answer in 1 attempts, the last one: 500"):
        score(broken)
    assert len(server.requests) == 5
    assert score(broken).read() == whole.read()
    assert len(server.requests) == 5 + 14  # four samples were on disk


def test_of_more_samples_the_missing_ones_are_requested_alone(server, tmp_path):
    first = samples_of(score(recipe_in(tmp_path, of_server(server.url), sampling__samples="2")), "seed", "text")
    assert len(server.requests) == 6 * 2
    more = score(recipe_in(tmp_path, of_server(server.url), sampling__samples="3"))
    assert len(server.requests) == 6 * 3
    assert [line[:2] for line in samples_of(more, "seed", "text")] == first


def test_a_model_that_the_server_does_not_have_is_one_line(server, tmp_path):
    with pytest.raises(UserError) as refused:
        score(recipe_in(tmp_path, of_server(server.url, "another"), server__concurrency="1"))
    assert str(refused.value).startswith(f"the server at {server.url} refuses: 404 ")
    assert "\n" not in str(refused.value)


def test_a_reply_without_an_answer_is_one_line(server, tmp_path):
    server.failures += ["garbage"]
    with pytest.raises(RunStopped, match=r"a reply must have choices\[0\] with a text and a finish_reason"):
        score(recipe_in(tmp_path, of_server(server.url), server__concurrency="1"))


def test_the_key_is_written_nowhere(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret")
    folder = score(recipe_in(tmp_path, of_server(server.url)))
    assert {request["key"] for request in server.requests} == {"Bearer very-secret"}
    assert not any(b"very-secret" in path.read_bytes() for path in folder.path.iterdir())


@contextmanager
def transformers_serve(log: Path):
    """`transformers serve` with the embedded model at a free port; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(EMBEDDED_FOLDER)]
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen([*command, *options], stdout=out, stderr=out, env=environment)
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        else:
            pytest.fail(f"transformers serve did not start: {log.read_text()}")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.skipif(not is_serve_available(), reason="needs pip install fastapi uvicorn openai")
def test_transformers_serve_and_this_process_give_the_same_greedy_answers(tmp_path):
    model = str(EMBEDDED_FOLDER)
    with transformers_serve(tmp_path / "log") as url:
        folder = score(recipe_in(tmp_path, of_server(url, model), sampling__temperature="0.0"))
        sampled = score(recipe_in(tmp_path, of_server(url, model), output__name="sampled"))
        with pytest.raises(UserError, match=r"refuses: 400 .*another"):
            score(recipe_in(tmp_path, of_server(url, "another"), output__name="none"))
    assert samples_of(folder, "text", "tokens", "truncated", "outcome", "vote") == greedy_in_this_process(tmp_path)
    assert json.loads(sampled.summary.read_bytes())["problems"] == 6
