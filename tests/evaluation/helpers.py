"""Recipes of small evaluations, made-up results, and a real server that decodes with our own engine."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fipo.evaluation.config import EvalRecipe, load_eval_recipe
from fipo.evaluation.results import ResultsFolder
from fipo.models.loading import load, stop_tokens
from fipo.rollout.engine.slot_engine import SlotEngine
from fipo.rollout.sampler import SamplingParams

RECIPE = """
[model]
path = "embedded"
device = "cpu"
[data]
grader = "number"
eval = { source = "signed_sums", count = 6 }
[sampling]
samples = 3
max_response_tokens = 24
[grading]
workers = 1
[output]
name = "first"
"""


def recipe_in(folder: Path, text: str = RECIPE, **overrides: str) -> EvalRecipe:
    """`recipe_in(tmp_path, sampling__samples="2")`: overrides with __ in place of the dot."""
    path = folder / "recipe.toml"
    path.write_text(text)
    settings = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_eval_recipe(path, {"output.folder": str(folder / "evals"), **settings})


def of_server(url: str, model: str = "tiny") -> str:
    """The text of the same recipe for a server."""
    return RECIPE.replace('[model]\npath = "embedded"\ndevice = "cpu"', f'[server]\nurl = "{url}"\nmodel = "{model}"')


def result(id: str, correct: list[bool], *, votes: list[int | None] | None = None, **values: Any) -> dict[str, Any]:
    """A line of results.jsonl."""
    votes = votes or [0 if right else 1 for right in correct]
    samples = [
        {"correct": right, "vote": vote, "tokens": 4, "truncated": False, "answer": "4" if right else "5"}
        | {"outcome": "correct" if right else "wrong"}
        for right, vote in zip(correct, votes, strict=True)
    ]
    return {"key": id, "id": id, "expected": "4", "prompt": "2+2=", "samples": samples, **values}


def folder_of(path: Path, results: list[dict[str, Any]], **sampling: Any) -> ResultsFolder:
    """A finished evaluation with these results."""
    folder = ResultsFolder(path)
    path.mkdir()
    folder.write(results)
    recipe = {"data": {"grader": "number"}, "sampling": sampling}
    folder.write_summary({"answered_by": {"url": "http://x/v1", "model": path.name}, "recipe": recipe})
    return folder


@dataclass
class SmallServer:
    """What a server was asked, and what it is to do wrong first."""

    url: str = ""
    failures: list[int | str] = field(
        default_factory=list
    )  # a status, or "hang", "garbage", "cut", for requests to come
    requests: list[dict[str, Any]] = field(default_factory=list)
    key: str | None = None  # the Authorization that it asks for
    released: threading.Event = field(default_factory=threading.Event)  # ends what hangs


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        model, self.tokenizer = load("embedded")
        self.engine = SlotEngine(model, stop_tokens=stop_tokens(model, self.tokenizer), slots=1)
        self.lock = threading.Lock()
        self.state = SmallServer(url=f"http://127.0.0.1:{self.server_port}/v1")

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        params = SamplingParams(temperature=body["temperature"], top_p=body["top_p"], max_tokens=body["max_tokens"])
        (response,) = self.engine.sample([list(self.tokenizer.encode(prompt))], params, body["seed"])
        text = self.tokenizer.decode(response.tokens, skip_special_tokens=True)
        choice = {"message": {"content": text}} if "messages" in body else {"text": text}
        reason = "length" if response.truncated else "stop"
        return {"choices": [choice | {"finish_reason": reason}], "usage": {"completion_tokens": len(response.tokens)}}


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        key = self.server.state.key
        self.reply(200 if key in (None, self.headers.get("Authorization")) else 401, {"data": []})

    def do_POST(self) -> None:
        state = self.server.state
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            state.requests.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
            failure = state.failures.pop(0) if state.failures else 404 if body["model"] != "tiny" else None
            reply = self.server.completion(body) if failure is None else {}
        if failure == "hang":
            state.released.wait(60)
        elif failure == "garbage":
            self.reply(200, {"choices": []})
        elif failure is None:
            self.reply(200, reply)
        elif isinstance(failure, int):
            self.reply(failure, {"error": {"message": f"no such model:\n{body['model']}"}})
        # "cut": not a word

    def reply(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")  # where a redirect would lead
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def small_server() -> Iterator[SmallServer]:
    """A server at a free port of this machine: the embedded model, decoded by our engine, in OpenAI's protocol."""
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.state
    finally:
        server.state.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
