"""JSON over HTTP with patience: what fails for a while is tried again, what cannot succeed is one line."""

import json
import os
import time
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from fipo.errors import RunStopped, UserError

KEY = "OPENAI_API_KEY"
LONGEST_PAUSE = 30.0  # seconds
CHECK_SECONDS = 10.0


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Client:
    """Posts to `url` + path. Safe to use from several threads."""

    def __init__(self, url: str, *, timeout_seconds: float, retries: int, first_pause: float = 1.0) -> None:
        self.url = url.rstrip("/")
        self.timeout_seconds = timeout_seconds
        self.retries = retries
        self.first_pause = first_pause
        self._open = build_opener(_NoRedirect).open

    def check(self) -> None:
        """Raise UserError unless something answers at the address, with whatever status, and wants no other key."""
        try:
            self._open(self._request("/models", None), timeout=CHECK_SECONDS).close()
        except HTTPError as error:
            if error.code in (401, 403):
                raise UserError(self._refusal(error)) from None
        except (OSError, HTTPException) as error:
            raise UserError(f"server.url: nothing answers at {self.url}: {_reason(error)}") from None

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The reply to `body`, parsed.

        Raises UserError if the server refuses the request, RunStopped if no attempt succeeded or it is not JSON.
        """
        pause = self.first_pause
        for attempt in range(self.retries + 1):
            try:
                with self._open(self._request(path, body), timeout=self.timeout_seconds) as reply:
                    content = reply.read()
                break
            except HTTPError as error:
                if error.code != 429 and error.code < 500:
                    raise UserError(self._refusal(error)) from None
                reason, wait = _described(error), _retry_after(error)
            except (OSError, HTTPException) as error:
                reason, wait = _reason(error), 0.0
            if attempt == self.retries:
                raise RunStopped(f"{self.url}{path}: no answer in {attempt + 1} attempts, the last one: {reason}")
            time.sleep(min(max(pause, wait), LONGEST_PAUSE))
            pause *= 2
        try:
            return json.loads(content)
        except ValueError:
            raise RunStopped(f"{self.url}{path}: a reply must be JSON, got {content[:80]!r}") from None

    def _request(self, path: str, body: dict[str, Any] | None) -> Request:
        headers = {"Content-Type": "application/json", "User-Agent": "fipo"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        return Request(self.url + path, None if body is None else json.dumps(body).encode(), headers)

    def _refusal(self, error: HTTPError) -> str:
        hint = f" (the key is taken from the environment's {KEY})" if error.code in (401, 403) else ""
        return f"the server at {self.url} refuses: {_described(error)}{hint}"


def _described(error: HTTPError) -> str:
    """The status and what the server says, in one line."""
    try:
        content = error.read(2000).decode(errors="replace")
    except (OSError, HTTPException):
        content = ""
    return " ".join(f"{error.code} {error.reason}: {content}".split())[:300].rstrip(": ")


def _reason(error: Exception) -> str:
    inner = error.reason if isinstance(error, URLError) else error
    if isinstance(inner, TimeoutError):
        return "timed out"
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__


def _retry_after(error: HTTPError) -> float:
    """The seconds that the server asks for, 0 if it asks for none or names a date."""
    asked = error.headers.get("Retry-After", "")
    return float(asked) if asked.isdecimal() else 0.0
