"""Functions as rewards: what they are given, and what happens when they misbehave."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from pydantic import ValidationError

from rayflow.core.options import build
from rayflow.core.rows import Prompt
from rayflow.errors import ConfigError, MissingPackageError, RewardError
from rayflow.rewards import sentiment
from rayflow.rewards.rule import RuleReward

PROMPT = Prompt(prompt_id="p1", prompt="2 + 2 =", messages=(), target="4")
CHAT = Prompt(prompt_id="p2", prompt=None, messages=({"role": "user", "content": "Hi"},), target=None)

SOURCE = """
import functools
NUMBER = 3
def length(prompt, response): return len(response)
def exact(prompt, response, target): return response == target
def turns(prompt, response, messages, target): return len(messages) + 10 * (target is None)
def keyword(prompt, response, *, target=None): return 1 if target is None else 2
def echo(prompt, response): return len(prompt)
def crash(prompt, response): return 1 / len(response)
def text(prompt, response): return "1.5"
def nothing(prompt, response): return None
def huge(prompt, response): return 10 ** 5000
def nan(prompt, response): return float("nan")
def alone(response): return 1.0
def greedy(prompt, response, weight): return 1.0
def turned(response, prompt): return len(response)
def turned_only(response, prompt, /): return len(response)
def turned_keywords(*, response, prompt): return len(response)
def half(response, question): return len(response)
def other_half(completion, prompt): return len(completion)
def other(a, b): return len(b)
def rest(prompt, *more): return len(more[0])
def every(*values): return len(values[1])
def target_first(target, response, prompt): return (response == target) + 10 * len(prompt)
def gap(prompt, weight=2.0, response=""): return weight * len(response)
def setting(response, weight=1.0): return weight
def anything(**values): return 1.0
def weighed(response, prompt, weight): return weight * len(response)
half_weighed = functools.partial(weighed, weight=2)
maximum = max
class Judge:
    def __call__(self, prompt, response): return 7
judge = Judge()
"""


@pytest.fixture(autouse=True)
def user_module(tmp_path, monkeypatch):
    (tmp_path / "my_rewards.py").write_text(SOURCE)
    (tmp_path / "broken_rewards.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_rewards", None)


def rule(function):
    built = build("reward", RuleReward.Config(function=function))
    built.setup()
    return built


def test_one_number_per_response_in_order():
    rewards = rule("my_rewards:length").score(PROMPT, ["aaa", "", "a"])
    assert rewards.dtype == np.float64
    assert rewards.tolist() == [3.0, 0.0, 1.0]
    assert rule("my_rewards:length").score(PROMPT, []).shape == (0,)


def test_a_parameter_named_target_receives_the_target():
    assert rule("my_rewards:exact").score(PROMPT, ["4", "5"]).tolist() == [1.0, 0.0]
    assert rule("my_rewards:keyword").score(PROMPT, ["4"]).tolist() == [2.0]
    assert rule("my_rewards:keyword").score(CHAT, ["4"]).tolist() == [1.0]


@pytest.mark.parametrize(
    "function", ["turned", "turned_only", "turned_keywords", "half", "other_half", "other", "rest", "every"]
)
def test_the_response_goes_to_the_parameter_of_that_name_wherever_it_stands(function):
    assert rule(f"my_rewards:{function}").score(PROMPT, ["aaa", ""]).tolist() == [3.0, 0.0]


def test_settings_with_a_default_and_partial_functions_keep_theirs():
    assert rule("my_rewards:gap").score(PROMPT, ["aaa"]).tolist() == [6.0]
    assert rule("my_rewards:half_weighed").score(PROMPT, ["aaa"]).tolist() == [6.0]
    assert rule("my_rewards:target_first").score(PROMPT, ["4"]).tolist() == [1.0 + 10 * len("2 + 2 =")]


def test_a_function_that_tells_nothing_about_its_parameters_is_given_prompt_and_response():
    with pytest.raises(RewardError, match="returned 'A', which is not a number"):
        rule("my_rewards:maximum").score(PROMPT, ["A"])


def test_a_parameter_named_messages_receives_the_turns():
    reward = rule("my_rewards:turns")
    assert reward.score(PROMPT, ["x"]).tolist() == [0] and reward.score(CHAT, ["x"]).tolist() == [11]


def test_a_chat_prompt_is_given_as_role_and_content_lines():
    assert rule("my_rewards:echo").score(CHAT, ["x"]).tolist() == [len("user: Hi")]


def test_an_object_that_can_be_called_is_a_function():
    assert rule("my_rewards:judge").score(PROMPT, ["x"]).tolist() == [7.0]


def test_a_crash_names_the_function_the_row_and_the_exception():
    with pytest.raises(
        RewardError, match="my_rewards:crash.*response 1 of prompt p1.*ZeroDivisionError: div"
    ):
        rule("my_rewards:crash").score(PROMPT, ["x", ""])


@pytest.mark.parametrize(("name", "shown"), [("text", "'1.5'"), ("nothing", "None")])
def test_something_that_is_not_a_number_is_refused(name, shown):
    with pytest.raises(RewardError, match=f"my_rewards:{name}.*returned {shown}, which is not a number"):
        rule(f"my_rewards:{name}").score(PROMPT, ["x"])


def test_a_number_too_large_for_a_float_is_a_failure_of_its_row():
    with pytest.raises(RewardError, match="response 0 of prompt p1 returned int too large for a float"):
        rule("my_rewards:huge").score(PROMPT, ["x"])


def test_a_nan_is_handed_on_for_the_caller_to_refuse():
    assert np.isnan(rule("my_rewards:nan").score(PROMPT, ["x"])).all()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("no_such_module:f", "cannot import 'no_such_module'"),
        ("my_rewards:lenght", "Did you mean 'length'"),
        ("my_rewards:NUMBER", "is a int, not a function"),
        ("my_rewards:alone", "must take .prompt, response.*no parameter for prompt"),
        ("my_rewards:setting", "must take .prompt, response.*no parameter for prompt"),
        ("my_rewards:anything", "must take .prompt, response.*no parameter for prompt and response"),
        ("my_rewards:greedy", "must take .prompt, response.*'weight'"),
        ("broken_rewards:f", "broken_rewards.*SyntaxError"),
    ],
)
def test_a_function_that_cannot_be_used_is_refused_in_setup(function, message):
    with pytest.raises(ConfigError, match=message):
        rule(function)


@pytest.mark.parametrize("function", ["my_rewards.length", "my_rewards:", ":length", "", "a:b:c"])
def test_the_name_must_have_the_form_module_function(function):
    with pytest.raises(ValidationError):
        RuleReward.Config(function=function)


def test_sentiment_orders_texts_as_a_reader_would():
    rewards = rule("rayflow.rewards.sentiment:compound").score(
        PROMPT, ["I loved it, a wonderful film!", "It was a film.", "Awful, I hated it.", ""]
    )
    assert rewards[0] > 0.7 > 0.0 == rewards[1] == rewards[3] > -0.7 > rewards[2]
    assert (np.abs(rewards) <= 1).all()


def test_the_analyzer_is_made_once():
    sentiment._analyzer.cache_clear()
    sentiment.compound("", "good")
    sentiment.compound("", "bad")
    assert sentiment._analyzer.cache_info().misses == 1


def test_without_the_package_setup_already_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "rayflow.rewards.sentiment")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"rayflow\[demo\]"):
        rule("rayflow.rewards.sentiment:compound")
