"""A judge behind an OpenAI-compatible endpoint: a vLLM server, a gateway, a commercial API.

    POST <url>   {"model": "..", "messages": [{"role": "user", "content": ".."}], "n": 4, "seed": 17, ..}
    200          {"choices": [{"message": {"content": ".."}}, ..]}

`api: completions` posts `prompt` in the place of `messages` and reads `text`. A server that gives fewer answers than
`n`, as some always give one, is asked again for the rest.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Literal

from pydantic import Field

from rayflow.core.http_client import HttpClient, HttpOptions
from rayflow.errors import RewardError
from rayflow.judges.base import JudgeSampling

_SEEDS = 1 << 31
"""Servers take seeds of 31 bits."""


class OpenAiJudge:
    """Asks a server, several texts at a time."""

    class Config(HttpOptions):
        """Settings of `openai` (the others are those of every server, see `HttpOptions`).

        Attributes:
            url: the API's root, such as https://api.openai.com/v1 or http://127.0.0.1:8000/v1.
            model: the name under which the server knows the judge.
            api: "chat", or "completions" for a base model that continues a text.
            num_concurrent: requests at the same time.
            extra: further keys of every request; a key that is null is left out, for a server that refuses it.
        """

        HARDWARE: ClassVar[frozenset[str]] = HttpOptions.HARDWARE | {"num_concurrent"}

        kind: str = "openai"
        model: str
        api: Literal["chat", "completions"] = "chat"
        num_concurrent: int = Field(default=8, gt=0)
        extra: dict[str, Any] = {}

    models: tuple[str, ...] = ()

    def __init__(self, options: Config) -> None:
        self.options = options

    def setup(self) -> None:
        """Look for the token.

        Raises:
            ConfigError: the variable that `token_env` names is not set.
        """
        path = "chat/completions" if self.options.api == "chat" else "completions"
        url = f"{self.options.url.rstrip('/')}/{path}"
        self._client = HttpClient(self.options, "judge", url)
        self._client.setup()
        self._threads = ThreadPoolExecutor(self.options.num_concurrent, "judge")

    async def answers(self, text: str, num: int, sampling: JudgeSampling, seed: int) -> tuple[str, ...]:
        """See `Judge.answers`; a server may or may not honour the seed."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._all, text, num, sampling, seed)

    def _all(self, text: str, num: int, sampling: JudgeSampling, seed: int) -> tuple[str, ...]:
        found: list[str] = []
        while len(found) < num:
            body = self._body(text, num - len(found), sampling, (seed + len(found)) % _SEEDS)
            found += self._ask(body)[: num - len(found)]
        return tuple(found)

    def _body(self, text: str, num: int, sampling: JudgeSampling, seed: int) -> dict[str, Any]:
        chat = self.options.api == "chat"
        asked = {"messages": [{"role": "user", "content": text}]} if chat else {"prompt": text}
        body = {"model": self.options.model, **asked, "n": num, "seed": seed, **sampling.model_dump()}
        return {key: value for key, value in {**body, **self.options.extra}.items() if value is not None}

    def _ask(self, body: dict[str, Any]) -> list[str]:
        """The answers of one request, at least one.

        Raises:
            RewardError: the server's answer cannot be used.
        """
        response = self._client.post(body)
        if response.status_code != 200:
            raise RewardError(f"the judge's server answered {self._client.told(response)}")
        try:
            choices = response.json()["choices"]
            chat = self.options.api == "chat"
            # A reasoning model that ran out of tokens has no content: that is an answer without a verdict.
            texts = [(choice["message"]["content"] if chat else choice["text"]) or "" for choice in choices]
        except (ValueError, KeyError, TypeError) as error:
            raise RewardError(
                f"the judge's server gave no 'choices' with texts: {self._client.text(response)[:80]!r}"
            ) from error
        if not texts or not all(isinstance(text, str) for text in texts):
            raise RewardError(f"the judge's server gave no answer: {self._client.text(response)[:80]!r}")
        return texts

    def close(self) -> None:
        """Let the threads end."""
        if hasattr(self, "_threads"):
            self._threads.shutdown(wait=False)
