"""JSON over HTTP with patience: what fails for a while is tried again, what cannot succeed is one line."""

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException, IncompleteRead
from queue import Empty, SimpleQueue
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from fipo.errors import RunStopped, UserError, why

KEY = "OPENAI_API_KEY"
SHORTEST_SECRET = 8  # characters; a server without keys is often given a word such as EMPTY
LONGEST_KEY = 4096
LONGEST_PAUSE = 30.0  # seconds
CHECK_SECONDS = 10.0
CHUNK = 65536
SHOWN = 2000  # bytes of what a server says, before white space is taken together

Read = TypeVar("Read")


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class _Reply:
    status: int
    reason: str
    headers: Mapping[str, str]
    content: bytes


class Client:
    """Posts to `url` + path. Safe to use from several threads. Raises UserError for a key that no header can hold."""

    def __init__(
        self, url: str, *, timeout_seconds: float, retries: int, longest_reply: int, first_pause: float = 1.0
    ) -> None:
        self.url = url.rstrip("/")
        self.timeout_seconds = timeout_seconds
        self.retries = retries
        self.longest_reply = longest_reply  # bytes
        self.first_pause = first_pause
        self._key = _key()
        self._open = build_opener(_NoRedirect).open

    def check(self) -> None:
        """Raise UserError unless something answers at the address, with whatever status, and wants no other key."""
        try:
            reply = self._exchange(self._request("/models", None), CHECK_SECONDS)
        except (OSError, HTTPException, ValueError) as error:
            raise UserError(f"server.url: nothing answers at {self.url}: {self._reason(error)}") from None
        if reply.status in (401, 403):
            raise UserError(self._refusal(reply))

    def post(self, path: str, body: dict[str, Any], read: Callable[[Any], Read]) -> Read:
        """What `read` makes of the reply to `body`, parsed; it raises ValueError, with the rule, for a wrong one.

        Raises UserError if the server refuses the request; RunStopped if no attempt succeeded, or the reply is wrong.
        """
        pause = self.first_pause
        for attempt in range(self.retries + 1):
            wait = 0.0
            try:
                reply = self._exchange(self._request(path, body), self.timeout_seconds)
            except (OSError, HTTPException, ValueError) as error:
                reason = self._reason(error)
            else:
                if reply.status < 300:
                    return self._parsed(reply.content, path, read)
                if reply.status != 429 and reply.status < 500:
                    raise UserError(self._refusal(reply))
                reason, wait = self._described(reply), _retry_after(reply)
            if attempt == self.retries:
                raise RunStopped(f"{self.url}{path}: no answer in {attempt + 1} attempts, the last one: {reason}")
            time.sleep(min(max(pause, wait), LONGEST_PAUSE))
            pause *= 2
        raise AssertionError("the last attempt returns or raises")

    def redacted(self, text: str) -> str:
        """`text` without the key, which a server may say again."""
        secret = self._key if self._key and len(self._key) >= SHORTEST_SECRET else None
        return text.replace(secret, "***") if secret else text

    def _exchange(self, request: Request, seconds: float) -> _Reply:
        """The whole reply. Raises TimeoutError if it has not come by then: no byte of it puts the deadline off."""
        until = time.monotonic() + seconds
        replies: SimpleQueue[_Reply | Exception] = SimpleQueue()

        def exchange() -> None:
            try:
                try:
                    with self._open(request, timeout=seconds) as answer:
                        replies.put(self._received(answer, until))
                except HTTPError as error:
                    with error:
                        replies.put(self._received(error, until))
            except Exception as error:
                replies.put(error)

        threading.Thread(target=exchange, name="request", daemon=True).start()
        try:
            reply = replies.get(timeout=seconds)
        except Empty:
            raise TimeoutError from None
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _received(self, answer: Any, until: float) -> _Reply:
        """What an answer holds; of an error no more is read than is shown."""
        longest = self.longest_reply if answer.status < 300 else SHOWN + LONGEST_KEY
        content = b""
        while len(content) <= longest and (more := answer.read1(CHUNK)):
            content += more
            if time.monotonic() > until:
                raise TimeoutError
        if answer.length and len(content) <= longest:
            raise IncompleteRead(b"", answer.length)
        return _Reply(status=answer.status, reason=answer.reason, headers=answer.headers, content=content)

    def _parsed(self, content: bytes, path: str, read: Callable[[Any], Read]) -> Read:
        where = f"{self.url}{path}"
        if len(content) > self.longest_reply:
            raise RunStopped(f"{where}: a reply must have at most {self.longest_reply:,} bytes, got more")
        try:
            reply = json.loads(content)
        except (ValueError, RecursionError):
            raise RunStopped(f"{where}: a reply must be JSON, got {self._shown(content)[:80]!r}") from None
        try:
            return read(reply)
        except ValueError as error:
            raise RunStopped(f"{where}: {error}, got {self._shown(content)[:200]}") from None

    def _request(self, path: str, body: dict[str, Any] | None) -> Request:
        headers = {"Content-Type": "application/json", "User-Agent": "fipo"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return Request(self.url + path, None if body is None else json.dumps(body).encode(), headers)

    def _refusal(self, reply: _Reply) -> str:
        hint = f" (the key is taken from the environment's {KEY})" if reply.status in (401, 403) else ""
        return f"the server at {self.url} refuses: {self._described(reply)}{hint}"

    def _described(self, reply: _Reply) -> str:
        """The status and what the server says, in one line."""
        said = f"{self.redacted(reply.reason)}: {self._shown(reply.content)}"
        return " ".join(f"{reply.status} {said}".split())[:300].rstrip(": ")

    def _shown(self, content: bytes) -> str:
        """The beginning, without the key, nor a part of it at the end."""
        return self.redacted(content[: SHOWN + LONGEST_KEY].decode(errors="replace"))[:SHOWN]

    def _reason(self, error: Exception) -> str:
        inner = error.reason if isinstance(error, URLError) else error
        if isinstance(inner, TimeoutError):
            return "timed out"
        return self.redacted(why(inner) if isinstance(inner, Exception) else str(inner))


def _key() -> str:
    """The environment's, "" if it has none. Raises UserError, without the key, for one that no header can hold."""
    key = os.environ.get(KEY, "")
    if len(key) > LONGEST_KEY:
        raise UserError(f"{KEY} must have at most {LONGEST_KEY} characters, got {len(key)}")
    for place, character in enumerate(key, start=1):
        if not "!" <= character <= "~":
            raise UserError(
                f"{KEY} must be of visible ASCII characters alone, got U+{ord(character):04X} as number {place} "
                f"of {len(key)}"
            )
    return key


def _retry_after(reply: _Reply) -> float:
    """The seconds that the server asks for, 0 if it asks for none or names a date."""
    asked = reply.headers.get("Retry-After", "")
    return float(asked) if asked.isdecimal() else 0.0
