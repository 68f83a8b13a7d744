"""A reward that another process serves over HTTP, batched, with retries.

Row in: a prompt with its responses. Row out: one number per response, from requests of the form

    POST <url>   {"items": [{"prompt": "..", "messages": [..], "response": "..", "target": null}, ..]}
    200          {"rewards": [0.25, ..]}      one finite number per item, in the order of the items

`prompt` is the plain text, or the chat turns as "role: content" lines; `messages` are the chat turns, empty for a
plain prompt; `target` is null where the data has none. A server ignores the keys it does not need.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from pydantic import Field, field_validator

from rayflow.core.options import KindOptions
from rayflow.core.private import hide, is_secret_parameter
from rayflow.core.rows import Prompt
from rayflow.errors import ConfigError, RewardError, StageError

BUSY = frozenset({429, 502, 503, 504})
"""Statuses of a server that is starting, overloaded or behind a proxy that cannot reach it."""
REFUSED = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405})
"""Statuses that say that the url or the token is wrong, whatever is asked."""
MAX_WAIT_S = 60.0


class HttpReward:
    """Asks a server; a prompt's responses go in requests of `batch_size`.

    A server that cannot be reached, is busy or refuses us stops the stage, for every other prompt would fail as
    well; finished shards are kept. An answer that cannot be used fails the prompt it was for.
    """

    class Config(KindOptions):
        """Settings of `http`.

        Attributes:
            url: where to post. No user name or password in it: it is stored with the run.
            version: says what the server serves. A fingerprint cannot see the server's model, so change this
                when you change that.
            batch_size: responses per request.
            timeout_s: for the connection, and between two pieces of the answer.
            max_retries: further attempts after a lost connection, a timeout, 429 or 5xx.
            backoff_s: wait before the first retry, doubled for each further one; the server's Retry-After, if
                longer, is kept to, up to a minute.
            token_env: name of an environment variable on every machine; its value is sent as
                "Authorization: Bearer .." and is never stored or printed.
        """

        HARDWARE: ClassVar[frozenset[str]] = frozenset(
            {"batch_size", "timeout_s", "max_retries", "backoff_s", "token_env"}
        )

        kind: str = "http"
        url: str
        version: str = ""
        batch_size: int = Field(default=64, gt=0)
        timeout_s: float = Field(default=60.0, gt=0)
        max_retries: int = Field(default=5, ge=0)
        backoff_s: float = Field(default=0.5, ge=0)
        token_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")

        @field_validator("url")
        @classmethod
        def _is_plain_http(cls, url: str) -> str:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("must begin with http:// or https:// and name a host")
            named = [
                key for key, _ in parse_qsl(parts.query, keep_blank_values=True) if is_secret_parameter(key)
            ]
            if parts.username or parts.password or named:
                held = f"the secret '{named[0]}'" if named else "a password"
                raise ValueError(
                    f"must not hold {held}: it is stored with the run. Name an environment variable "
                    "in token_env"
                )
            return url

    waits = True
    models: tuple[str, ...] = ()

    def __init__(self, options: Config) -> None:
        self.options = options
        self._token = ""
        self._local = threading.local()  # a session is not made for several threads

    def setup(self) -> None:
        """Look for the token; the server is first asked when there is something to score.

        Raises:
            ConfigError: the variable that `token_env` names is not set.
        """
        name = self.options.token_env
        self._token = os.environ.get(name, "") if name else ""
        if name and not self._token:
            raise ConfigError(f"token_env: the environment variable {name} is not set on this machine.")

    def score(self, prompt: Prompt, responses: Sequence[str]) -> np.ndarray:
        """Rewards of one prompt's candidates: [n] float64.

        Raises:
            RewardError: the server's answer cannot be used.
            StageError: the server does not answer, or refuses every request of this kind.
        """
        common = {"prompt": prompt.text, "messages": list(prompt.messages), "target": prompt.target}
        items = [{**common, "response": response} for response in responses]
        size = self.options.batch_size
        parts = [self._ask(items[start : start + size]) for start in range(0, len(items), size)]
        return np.array([reward for part in parts for reward in part], dtype=np.float64)

    def _ask(self, items: list[dict[str, Any]]) -> list[float]:
        response = self._post({"items": items})
        if response.status_code in REFUSED:
            raise StageError(
                f"The reward server at {self.options.url} refuses requests: {self._told(response)}. Check the url "
                "and the token that token_env names. Finished shards are kept; run again to go on."
            )
        if response.status_code != 200:
            raise RewardError(f"the reward server answered {self._told(response)}")
        text = hide(response.text, self._token)  # a server may echo what it was sent
        try:
            answer = json.loads(text)
        except ValueError as error:
            raise RewardError(f"the reward server's answer is not JSON: {text[:80]!r}") from error
        return _rewards(answer, len(items))

    def _post(self, body: dict[str, Any]) -> Any:
        """The first response that is no reason to try again; after the last attempt also a 500.

        Raises:
            StageError: no answer, or a busy server, in every attempt.
        """
        attempts = self.options.max_retries + 1
        for attempt in range(attempts):
            response, trouble = self._attempt(body)
            if response is not None and response.status_code < 500 and response.status_code not in BUSY:
                return response
            if attempt + 1 < attempts:
                asked = 0.0 if response is None else _retry_after(response)
                time.sleep(min(MAX_WAIT_S, max(asked, self.options.backoff_s * 2**attempt)))
        if response is not None and response.status_code not in BUSY:
            return response  # the server is there; perhaps only these items are too much for it
        raise StageError(
            f"The reward server at {self.options.url} did not answer in {attempts} attempts: {trouble}. Is it "
            "running? Finished shards are kept; run again to go on."
        )

    def _attempt(self, body: dict[str, Any]) -> tuple[Any, str]:
        """A response and what it says, or None and what went wrong."""
        import requests

        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            # Set also without a token: requests would otherwise send what ~/.netrc holds for the host.
            self._local.session.auth = self._sign
        try:
            response = self._local.session.post(
                self.options.url, json=body, timeout=self.options.timeout_s, allow_redirects=False
            )
        except requests.RequestException as error:
            return None, hide(f"{type(error).__name__}: {error}", self._token)[:300]
        return response, self._told(response)

    def _sign(self, request: Any) -> Any:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def _told(self, response: Any) -> str:
        """Status and beginning of an answer, without the token, should the server echo it."""
        text = hide(" ".join(response.text.split()), self._token)
        return f"{response.status_code} {response.reason}: {text[:200]}".rstrip(": ")


def _retry_after(response: Any) -> float:
    """Seconds that the server asks to wait; 0 where it says none, or a date."""
    try:
        return max(0.0, float(response.headers.get("Retry-After", "")))
    except ValueError:
        return 0.0


def _rewards(answer: Any, n: int) -> list[float]:
    """The numbers in a server's answer.

    Raises:
        RewardError: they are not n finite numbers under "rewards".
    """
    found = answer.get("rewards") if isinstance(answer, dict) else None
    if not isinstance(found, list):
        raise RewardError(f"the reward server's answer has no list 'rewards': {str(answer)[:80]}")
    if len(found) != n:
        raise RewardError(f"the reward server gave {len(found)} rewards for {n} responses")
    for index, value in enumerate(found):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise RewardError(
                f"the reward server gave {value!r:.80} for item {index}, which is no finite number"
            )
    return [float(value) for value in found]
