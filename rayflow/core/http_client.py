"""Asking a server over HTTP: JSON out, a response back; retries, a token by name, and words for what went wrong.

Shared by rewards and judges that another process serves. A server that cannot be reached, is busy or refuses us
stops the stage, for every other row would fail as well; what an answer means is the caller's affair.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Annotated, Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field

from rayflow.core.options import KindOptions
from rayflow.core.private import hide, is_secret_parameter
from rayflow.errors import ConfigError, StageError

BUSY = frozenset({429, 502, 503, 504})
"""Statuses of a server that is starting, overloaded or behind a proxy that cannot reach it."""
REFUSED = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405})
"""Statuses that say that the url or the token is wrong, whatever is asked."""
MAX_WAIT_S = 60.0


def plain_http(url: str) -> str:
    """The url, if it is one to post to.

    Raises:
        ValueError: another scheme, no host, or a password or secret parameter in it.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must begin with http:// or https:// and name a host")
    named = [key for key, _ in parse_qsl(parts.query, keep_blank_values=True) if is_secret_parameter(key)]
    if parts.username or parts.password or named:
        held = f"the secret '{named[0]}'" if named else "a password"
        raise ValueError(
            f"must not hold {held}: it is stored with the run. Name an environment variable in token_env"
        )
    return url


class HttpOptions(KindOptions):
    """Settings of everything that asks a server.

    Attributes:
        url: where to post. No user name or password in it: it is stored with the run.
        version: says what the server serves. A fingerprint cannot see the server's model, so change this
            when you change that.
        timeout_s: for the connection, and between two pieces of the answer.
        max_retries: further attempts after a lost connection, a timeout, 429 or 5xx.
        backoff_s: wait before the first retry, doubled for each further one; the server's Retry-After, if
            longer, is kept to, up to a minute.
        token_env: name of an environment variable on every machine; its value is sent as
            "Authorization: Bearer .." and is never stored or printed.
    """

    HARDWARE: ClassVar[frozenset[str]] = frozenset({"timeout_s", "max_retries", "backoff_s", "token_env"})

    url: Annotated[str, AfterValidator(plain_http)]
    version: str = ""
    timeout_s: float = Field(default=60.0, gt=0)
    max_retries: int = Field(default=5, ge=0)
    backoff_s: float = Field(default=0.5, ge=0)
    token_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")


class HttpClient:
    """Posts JSON to one server, from any thread.

    Args:
        options: the server, and how patient to be.
        what: the server in words, such as "reward server".
        url: where to post; None is the one of the options.
    """

    def __init__(self, options: HttpOptions, what: str, url: str | None = None) -> None:
        self._options = options
        self._what = what
        self._url = url or options.url
        self._token = ""
        self._local = threading.local()  # a session is not made for several threads

    def setup(self) -> None:
        """Look for the token; the server is first asked when there is something to ask.

        Raises:
            ConfigError: the variable that `token_env` names is not set.
        """
        name = self._options.token_env
        self._token = os.environ.get(name, "") if name else ""
        if name and not self._token:
            raise ConfigError(f"token_env: the environment variable {name} is not set on this machine.")

    def post(self, body: dict[str, Any]) -> Any:
        """The first response that is no reason to try again; after the last attempt also a 500.

        Returns:
            A `requests.Response`; what its status means for the row is for the caller to say (see `told`).

        Raises:
            StageError: no answer or a busy server in every attempt, or a server that refuses whatever is asked.
        """
        attempts = self._options.max_retries + 1
        for attempt in range(attempts):
            response, trouble = self._attempt(body)
            if response is not None and response.status_code < 500 and response.status_code not in BUSY:
                return self._accepted(response)
            if attempt + 1 < attempts:
                asked = 0.0 if response is None else _retry_after(response)
                time.sleep(min(MAX_WAIT_S, max(asked, self._options.backoff_s * 2**attempt)))
        if response is not None and response.status_code not in BUSY:
            return response  # the server is there; perhaps only this is too much for it
        raise StageError(
            f"The {self._what} at {self._url} did not answer in {attempts} attempts: {trouble}. Is it "
            "running? Finished shards are kept; run again to go on."
        )

    def _accepted(self, response: Any) -> Any:
        if response.status_code in REFUSED:
            raise StageError(
                f"The {self._what} at {self._url} refuses requests: {self.told(response)}. Check the url "
                "and the token that token_env names. Finished shards are kept; run again to go on."
            )
        return response

    def _attempt(self, body: dict[str, Any]) -> tuple[Any, str]:
        """A response and what it says, or None and what went wrong."""
        import requests

        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            # Set also without a token: requests would otherwise send what ~/.netrc holds for the host.
            self._local.session.auth = self._sign
        try:
            response = self._local.session.post(
                self._url, json=body, timeout=self._options.timeout_s, allow_redirects=False
            )
        except requests.RequestException as error:
            return None, hide(f"{type(error).__name__}: {error}", self._token)[:300]
        return response, self.told(response)

    def _sign(self, request: Any) -> Any:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def text(self, response: Any) -> str:
        """What the server answered, without the token: it may echo what it was sent."""
        return hide(response.text, self._token)

    def told(self, response: Any) -> str:
        """Status and beginning of an answer."""
        text = " ".join(self.text(response).split())
        return f"{response.status_code} {response.reason}: {text[:200]}".rstrip(": ")


def _retry_after(response: Any) -> float:
    """Seconds that the server asks to wait; 0 where it says none, or a date."""
    try:
        return max(0.0, float(response.headers.get("Retry-After", "")))
    except ValueError:
        return 0.0
