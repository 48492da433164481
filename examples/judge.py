"""A judge as a grader: a model behind any server that speaks OpenAI's protocol says how good a response is.

Put this file beside your recipe, change PROMPT, and name it there:

    [data]
    grader = "judge:grade"      # alone, or in [[reward.graders]] beside one that checks the answer
    [grading]
    workers = 16                # requests at one time
    deadline_seconds = 60.0     # more than JUDGE_DEADLINE

The environment says where the judge is: JUDGE_URL (http://127.0.0.1:8000/v1), JUDGE_MODEL, OPENAI_API_KEY if it wants
one, JUDGE_DEADLINE in seconds for one response with all its attempts (30), JUDGE_CACHE (judge_cache.sqlite).
The same response to the same question is asked once: what the judge said is kept in the cache.
"""

import hashlib
import json
import os
import re
import sqlite3
import time
from contextlib import closing
from urllib.error import HTTPError
from urllib.request import Request, urlopen

URL = os.environ.get("JUDGE_URL", "http://127.0.0.1:8000/v1").rstrip("/")
MODEL = os.environ.get("JUDGE_MODEL", "judge")
DEADLINE = float(os.environ.get("JUDGE_DEADLINE", "30"))
CACHE = os.environ.get("JUDGE_CACHE", "judge_cache.sqlite")
PROMPT = """Question:
{question}

Reference answer:
{answer}

Response:
{response}

How good is the response, from 0 (useless) to 10 (as good as the reference)? Answer with the number alone."""


def grade(response, problem):
    """0.0 to 1.0, which counts as right. Raises where there is no verdict in time, or none at all: a failed grade."""
    said = verdict(PROMPT.format(question=problem.text, answer=problem.answer, response=response))
    number = re.search(r"\b(10|[0-9])\b", said)
    if number is None:
        raise ValueError(f"the judge must answer with a number from 0 to 10, got {said!r:.80}")
    return int(number[1]) / 10


def verdict(asked):
    """What the judge says, from the cache if it said so before."""
    key = hashlib.sha256(json.dumps([URL, MODEL, asked]).encode()).hexdigest()
    with closing(sqlite3.connect(CACHE, timeout=DEADLINE)) as cache:
        with cache:
            cache.execute("CREATE TABLE IF NOT EXISTS said (key TEXT PRIMARY KEY, text TEXT)")
        known = cache.execute("SELECT text FROM said WHERE key = ?", (key,)).fetchone()
        if known is None:
            known = (ask(asked),)
            with cache:
                cache.execute("INSERT OR REPLACE INTO said VALUES (?, ?)", (key, *known))
    return known[0]


def ask(asked):
    """One request, again after a lost connection or the status 429 or 5xx, until the deadline."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": asked}], "temperature": 0, "max_tokens": 8}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}"}
    request = Request(f"{URL}/chat/completions", json.dumps(body).encode(), headers)
    until, pause = time.monotonic() + DEADLINE, 0.5
    while True:
        try:
            with urlopen(request, timeout=max(0.1, until - time.monotonic())) as reply:
                return json.load(reply)["choices"][0]["message"]["content"]
        except HTTPError as error:
            if error.code != 429 and error.code < 500:
                raise ValueError(f"the judge refuses: {error.code} {error.reason}") from None
            reason = f"{error.code} {error.reason}"
        except OSError as error:
            reason = str(error)
        if time.monotonic() + pause > until:
            raise TimeoutError(f"no answer of the judge at {URL} within {DEADLINE:g} s: {reason}")
        time.sleep(pause)
        pause *= 2
