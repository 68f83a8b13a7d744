"""A Python function as the reward: a format check, an exact answer, a sentiment score.

Row in: a prompt with its responses. Row out: one number per response, from

    def reward(prompt: str, response: str) -> float: ...
    def reward(prompt: str, response: str, target: str | None, messages: list[dict[str, str]]) -> float: ...

`target` and `messages` are given to a function that has a parameter of that name, which may be keyword-only. `prompt`
is the plain text, or the chat turns as "role: content" lines; `messages` holds the turns, and nothing where the prompt
is plain text; `target` is None where the data has none.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from rayflow.core.registry import load_object
from rayflow.core.rows import Prompt
from rayflow.errors import ConfigError, RayflowError, RewardError
from rayflow.rewards.base import PointwiseOptions


class RuleReward:
    """Calls the user's function once per response, in order."""

    class Config(PointwiseOptions):
        """Settings of `rule`; the other is of every such reward (`PointwiseOptions`).

        Attributes:
            function: "module:function", importable on every machine. Its code is not part of the stage's
                fingerprint: rename it when you change what it means.
        """

        kind: str = "rule"
        function: str = Field(pattern=r"^[\w.]+:\w+$")

    def __init__(self, options: Config) -> None:
        self.options = options
        self._function: Callable[..., Any] | None = None
        self._wanted: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """None: a rule has no weights."""
        return ()

    def setup(self) -> None:
        """Import the function and look at its parameters.

        Raises:
            ConfigError: it cannot be imported, is no function, or does not take (prompt, response).
        """
        name = self.options.function
        function = load_object(name, "reward function")
        if not callable(function):
            raise ConfigError(f"reward function '{name}' is a {type(function).__name__}, not a function.")
        self._wanted = _wanted(function, name)
        self._function = function

    def score(self, prompt: Prompt, responses: Sequence[str]) -> np.ndarray:
        """Rewards of one prompt's candidates: [n] float64.

        Raises:
            RewardError: the function raised, or returned something that is not a number.
        """
        if self._function is None:
            self.setup()
        return np.array([self._score_one(prompt, i, text) for i, text in enumerate(responses)], np.float64)

    def _score_one(self, prompt: Prompt, index: int, response: str) -> float:
        more = {"target": prompt.target, "messages": [dict(turn) for turn in prompt.messages or ()]}
        extra = {name: more[name] for name in self._wanted}
        where = f"reward function '{self.options.function}' on response {index} of prompt {prompt.prompt_id}"
        try:
            value = self._function(prompt.text, response, **extra)
        except RayflowError:  # already says what to do, such as a package to install
            raise
        except Exception as error:  # the user's code may raise anything; the row fails with its words
            raise RewardError(f"{where} raised {type(error).__name__}: {error}") from error
        try:
            if isinstance(value, str | bytes):
                raise TypeError
            return float(value)
        except (TypeError, ValueError):
            raise RewardError(f"{where} returned {value!r:.80}, which is not a number.") from None
        except OverflowError:  # its digits are not shown: Python refuses to write out thousands of them
            raise RewardError(
                f"{where} returned {type(value).__name__} too large for a float: return a number below 1.8e308."
            ) from None


def _wanted(function: Callable[..., Any], name: str) -> tuple[str, ...]:
    """Which of `target` and `messages` the function has a parameter for.

    Raises:
        ConfigError: it cannot be called as (prompt, response) with these by name.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C tell nothing about their parameters
        return ()
    wanted = tuple(name for name in ("target", "messages") if name in signature.parameters)
    try:
        signature.bind("prompt", "response", **dict.fromkeys(wanted))
    except TypeError as error:
        raise ConfigError(
            f"reward function '{name}{signature}' must take (prompt, response), and may take target and messages: "
            f"{error}."
        ) from None
    return wanted
