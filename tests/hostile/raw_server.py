"""A server that writes whatever bytes a test gives it in answer to a POST, at once or drop by drop."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DRIPPING_SECONDS = 20.0


def completion(text: Any = "so 5", tokens: Any = 3, **choice: Any) -> bytes:
    """The body of a good reply, but for what is given."""
    choices = [{"text": text, "finish_reason": "stop", **choice}]
    return json.dumps({"choices": choices, "usage": {"completion_tokens": tokens}}).encode()


def reply(body: bytes, status: str = "200 OK", length: object = None, **headers: str) -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class RawServer:
    url: str = ""
    answers: list[bytes] = field(default_factory=list)  # to POSTs; the last one stays
    drops: bytes = b""  # written again and again after an answer
    pause: float = 0.0  # seconds between the drops
    posts: int = 0
    echo_key: bool = False  # put the Authorization in place of KEY


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.wfile.write(reply(b"{}"))

    def do_POST(self) -> None:
        state: RawServer = self.server.state  # type: ignore[attr-defined]
        self.rfile.read(int(self.headers["Content-Length"]))
        state.posts += 1
        answer = state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]
        if state.echo_key:
            answer = answer.replace(b"KEY", str(self.headers["Authorization"]).encode())
        until = time.monotonic() + DRIPPING_SECONDS
        with suppress(OSError):
            self.wfile.write(answer)
            while state.drops and time.monotonic() < until:
                self.wfile.write(state.drops)
                time.sleep(state.pause)
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def raw_server() -> Iterator[RawServer]:
    """At a free port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.block_on_close = False
    server.state = RawServer(url=f"http://127.0.0.1:{server.server_port}/v1")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.state  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
