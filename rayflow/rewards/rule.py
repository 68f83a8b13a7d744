"""A Python function as the reward: a format check, an exact answer, a sentiment score.

Row in: a prompt with its responses. Row out: one number per response, from

    def reward(prompt: str, response: str) -> float: ...
    def reward(prompt: str, response: str, target: str | None, messages: list[dict[str, str]]) -> float: ...

Parameters of these four names receive the value of that name, in whatever order they stand; they may be keyword-only.
`target` and `messages` are left out where no parameter asks for them. Parameters of other names receive what is left of
prompt and response, in this order: `def reward(question, answer)` is a reward function too. `prompt` is the plain text,
or the chat turns as "role: content" lines; `messages` holds the turns, and nothing where the prompt is plain text;
`target` is None where the data has none.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from rayflow.core.registry import load_object
from rayflow.core.rows import Prompt
from rayflow.errors import ConfigError, RayflowError, RewardError
from rayflow.rewards.base import PointwiseOptions

_ALWAYS = ("prompt", "response")
_ASKED = ("target", "messages")


class _Call(NamedTuple):
    """The names of the values that a function is given by position, and of those by keyword."""

    args: tuple[str, ...]
    named: tuple[str, ...] = ()


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
        self._call = _Call(_ALWAYS)

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
        self._call = _call(function, name)
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
        values = {"prompt": prompt.text, "response": response, "target": prompt.target}
        values["messages"] = [
            dict(turn) for turn in prompt.messages or ()
        ]  # a copy: the function may change it
        args, named = (
            [values[name] for name in self._call.args],
            {name: values[name] for name in self._call.named},
        )
        where = f"reward function '{self.options.function}' on response {index} of prompt {prompt.prompt_id}"
        try:
            value = self._function(*args, **named)
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


def _call(function: Callable[..., Any], name: str) -> _Call:
    """How to call the function, by the names of its parameters.

    Raises:
        ConfigError: it cannot be called with a prompt, a response, and what else it asks for.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C tell nothing about their parameters
        return _Call(_ALWAYS)
    call = _planned(signature)
    try:
        if not {*_ALWAYS} <= {*call.args, *call.named}:
            raise TypeError(
                "no parameter for " + " and ".join(v for v in _ALWAYS if v not in call.args + call.named)
            )
        signature.bind(*call.args, **dict.fromkeys(call.named))
    except TypeError as error:
        raise ConfigError(
            f"reward function '{name}{signature}' must take (prompt, response), and may take target and messages: "
            f"{error}."
        ) from None
    return call


def _planned(signature: inspect.Signature) -> _Call:
    """What each parameter receives: by position as far as nothing is left out before it, by name after that.

    By position where that is possible: what stands behind a decorator often takes nothing but `*args`.
    """
    left = [value for value in _ALWAYS if not _takes(signature, value)]
    # Beside a parameter called "response", one with a default is a setting of the user's, and not the prompt.
    half_named = len(left) == 1
    args: list[str] = []
    named: list[str] = []
    whole = True
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL and whole:
            args, left = args + left, []
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        value = parameter.name if parameter.name in (*_ALWAYS, *_ASKED) else None
        by_position = whole and parameter.kind is not parameter.KEYWORD_ONLY
        if (
            value is None
            and left
            and by_position
            and (parameter.default is parameter.empty or not half_named)
        ):
            value = left.pop(0)
        if value is None:
            whole = False
        else:
            (args if by_position else named).append(value)
    return _Call(tuple(args), tuple(named))


def _takes(signature: inspect.Signature, name: str) -> bool:
    """Whether a parameter has this name; `*prompt` and `**prompt` are no such parameter."""
    parameter = signature.parameters.get(name)
    return parameter is not None and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
