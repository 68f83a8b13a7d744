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
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from rayflow.core.http_client import HttpClient, HttpOptions
from rayflow.core.numbers import as_float
from rayflow.core.rows import Prompt
from rayflow.errors import RewardError
from rayflow.rewards.base import PointwiseOptions


class HttpReward:
    """Asks a server; a prompt's responses go in requests of `batch_size`.

    A server that cannot be reached, is busy or refuses us stops the stage; finished shards are kept. An answer
    that cannot be used fails the prompt it was for.
    """

    class Config(HttpOptions, PointwiseOptions):
        """Settings of `http`; the others are those of every server and every such reward (`HttpOptions`,
        `PointwiseOptions`).

        Attributes:
            batch_size: responses per request.
        """

        HARDWARE: ClassVar[frozenset[str]] = HttpOptions.HARDWARE | {"batch_size"}

        kind: str = "http"
        batch_size: int = Field(default=64, gt=0)

    waits = True
    models: tuple[str, ...] = ()

    def __init__(self, options: Config) -> None:
        self.options = options
        self._client = HttpClient(options, "reward server")

    def setup(self) -> None:
        """Look for the token.

        Raises:
            ConfigError: the variable that `token_env` names is not set.
        """
        self._client.setup()

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
        response = self._client.post({"items": items})
        if response.status_code != 200:
            raise RewardError(f"the reward server answered {self._client.told(response)}")
        text = self._client.text(response)
        try:
            answer = json.loads(text)
        except ValueError as error:
            raise RewardError(f"the reward server's answer is not JSON: {text[:80]!r}") from error
        return _rewards(answer, len(items))


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
    return [_finite(value, index) for index, value in enumerate(found)]


def _finite(value: Any, index: int) -> float:
    number = as_float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not math.isfinite(number):
        raise RewardError(f"the reward server gave {value!r:.80} for item {index}, which is no finite number")
    return number
