"""Weighted sums of rewards: what comes out, what is kept, and whose fault a failure is."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from rayflow.config import PoolOptions
from rayflow.core.options import KindOptions, build
from rayflow.core.rows import Prompt
from rayflow.core.stats import logit
from rayflow.errors import ConfigError, RewardError
from rayflow.pipeline.stages.score import ScoreStage
from rayflow.rewards.ensemble import EnsembleReward, standardized

PROMPT = Prompt(prompt_id="p1", prompt="?", messages=(), target=None)
RESPONSES = ["good", "a bad film", "lovely and happy", "good"]
LENGTH = {"kind": "rule", "function": "tests.rewards.test_ensemble:length"}
VOWELS = {"kind": "rule", "function": "tests.rewards.test_ensemble:vowels"}
BROKEN = {"kind": "rule", "function": "tests.rewards.test_ensemble:broken"}
RANKER = {"kind": "tests.pipeline.judges:Counting"}


def length(prompt: str, response: str) -> float:
    return len(response)


def vowels(prompt: str, response: str) -> float:
    return sum(letter in "aeiou" for letter in response)


def broken(prompt: str, response: str) -> float:
    return float("nan")


class Server:
    """A reward that holds something until it is closed."""

    Config = KindOptions
    models: tuple[str, ...] = ()
    closed = 0

    def __init__(self, options: KindOptions) -> None:
        pass

    def setup(self) -> None:
        pass

    def score(self, prompt: Prompt, responses: list[str]) -> np.ndarray:
        return np.zeros(len(responses))

    def close(self) -> None:
        type(self).closed += 1


def ensemble(*members: tuple[dict, float], **options: object) -> EnsembleReward:
    parts = [{"reward": reward, "weight": w, "name": f"m{i}"} for i, (reward, w) in enumerate(members)]
    built = build("reward", EnsembleReward.Config(members=parts, **options))
    built.setup()
    return built


def test_a_stage_that_ends_closes_the_members_that_hold_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "closed", 0)
    server = {"kind": "tests.rewards.test_ensemble:Server"}
    parts = [{"reward": LENGTH, "name": "length"}, {"reward": server, "name": "server"}]
    stage = ScoreStage("score", ("prompts", "sample"), EnsembleReward.Config(members=parts), PoolOptions())
    stage.setup()
    stage.close()
    assert Server.closed == 1


def test_rewards_are_the_weighted_sum_and_the_parts_stay_as_they_are() -> None:
    # lengths 4, 10, 16, 4 and vowels 2, 3, 4, 2
    found = ensemble((LENGTH, -0.5), (VOWELS, 2.0)).score_components(PROMPT, RESPONSES)
    assert found.rewards.tolist() == [2.0, 1.0, 0.0, 2.0]
    assert [part.tolist() for part in found.parts] == [[4, 10, 16, 4], [2, 3, 4, 2]]
    assert found.variances.tolist() == [1.0, 12.25, 36.0, 1.0]
    assert all(part.dtype == np.float64 for part in (found.rewards, *found.parts, found.variances))
    assert ensemble((LENGTH, -0.5), (VOWELS, 2.0)).score(PROMPT, RESPONSES).tolist() == [2, 1, 0, 2]


def test_members_that_agree_have_no_variance() -> None:
    found = ensemble((LENGTH, 1.0), (LENGTH, 3.0)).score_components(PROMPT, RESPONSES)
    assert found.variances.tolist() == [0.0] * 4


def test_standardised_members_count_alike_whatever_their_scale() -> None:
    found = ensemble((LENGTH, 1.0), (VOWELS, 1.0), normalize="standardize")
    parts = found.score_components(PROMPT, RESPONSES).parts
    for part, values in zip(parts, ([4, 10, 16, 4], [2, 3, 4, 2]), strict=True):
        assert part == pytest.approx((np.array(values) - np.mean(values)) / np.std(values))
    scaled = standardized(np.array([[1.0, 2.0, 4.0], [10.0, 20.0, 40.0], [0.1, 0.1, 0.1]]))
    assert scaled[0] == pytest.approx(scaled[1]) and scaled[2].tolist() == [0, 0, 0]


def test_rewards_that_differ_by_rounding_are_equal() -> None:
    rounded = [
        [0.1 + 0.2, 0.3, 0.3],
        [float(np.float32(0.99999994)), 1.0, 1.0],
        [-2e4, -2e4 - 1e-12, -2e4],
        [0, 0, 0],
    ]
    assert not standardized(np.array(rounded)).any()
    small = standardized(np.array([[1e-9, -1e-9, 0.0], [1.0, 1.00001, 1.0]]))
    assert small.std(axis=1) == pytest.approx([1.0, 1.0])


def test_a_failure_names_its_member() -> None:
    with pytest.raises(RewardError, match="member 'm1': gave nan for candidate 0"):
        ensemble((LENGTH, 1.0), (BROKEN, 0.0)).score(PROMPT, RESPONSES)


def test_members_are_named_and_no_two_alike() -> None:
    options = EnsembleReward.Config(members=[{"reward": LENGTH}, {"reward": RANKER, "name": "judge"}])
    assert build("reward", options).components == ("rule", "judge")
    with pytest.raises(ValidationError, match="two members are called 'rule'"):
        EnsembleReward.Config(members=[{"reward": LENGTH}, {"reward": VOWELS}])
    with pytest.raises(ValidationError):
        EnsembleReward.Config(members=[])


def test_a_negative_weight_cannot_make_a_bonus_of_a_penalty() -> None:
    penalised = {**LENGTH, "missing_eos_penalty": 1.0}
    inner = {"kind": "ensemble", "members": [{"reward": penalised}]}
    for reward in (penalised, inner):
        with pytest.raises(ValidationError, match="weight -0.5 would turn missing_eos_penalty into a bonus"):
            EnsembleReward.Config(members=[{"reward": reward, "weight": -0.5}])
    members = [{"reward": LENGTH, "weight": -0.5}, {"reward": {**penalised, "function": VOWELS["function"]}}]
    for member, name in zip(members, "ab", strict=True):
        member["name"] = name
    found = build("reward", EnsembleReward.Config(members=members))
    cut = np.array([True, False, False, False])
    assert found.score(PROMPT, RESPONSES, cut).tolist() == [-1.0, -2.0, -4.0, 0.0]


def test_with_a_ranker_preferences_add_up_in_log_odds() -> None:
    """A pointwise member counts as Bradley-Terry; each pair is one comparison of the ranker."""
    mixed = ensemble((RANKER, 2.0), (LENGTH, 0.1))
    pairs = np.array([[0, 1], [2, 1], [1, 2], [0, 3]])
    found = mixed.compare(PROMPT, RESPONSES, pairs)
    (ranker, _) = mixed.members
    assert mixed.pairwise and ranker.num_comparisons == 4
    expected = 2 * logit(ranker.compare(PROMPT, RESPONSES, pairs)) + 0.1 * np.array([-6, 6, -6, 0])
    assert logit(found) == pytest.approx(expected, abs=1e-6)
    assert found[1] == pytest.approx(1 - found[2]) and found[3] == 0.5
    assert not ensemble((LENGTH, 1.0)).pairwise


def test_comparisons_cannot_be_standardised() -> None:
    with pytest.raises(ConfigError, match="does not go with a pairwise member"):
        ensemble((RANKER, 1.0), (LENGTH, 1.0), normalize="standardize")


class Relative(Server):
    """A reward whose scores depend on the other responses of the call."""

    relative = True


def test_comparisons_take_no_rewards_that_depend_on_the_other_responses_of_a_call() -> None:
    inner = {"kind": "ensemble", "members": [{"reward": LENGTH}], "normalize": "standardize"}
    for member in (inner, {"kind": "tests.rewards.test_ensemble:Relative"}):
        with pytest.raises(
            ConfigError, match="'m1' does not go with a pairwise member: its rewards are relative"
        ):
            ensemble((RANKER, 1.0), (member, 1.0))
        assert ensemble((LENGTH, 1.0), (member, 1.0)).relative
    judges = {"kind": "ensemble", "members": [{"reward": RANKER, "name": "judge"}]}
    assert ensemble((RANKER, 1.0), (judges, 1.0), (LENGTH, 1.0)).pairwise


def test_the_fingerprint_is_made_of_the_members_own(pad_is_eos_model: str) -> None:
    def identity(**settings: object) -> dict:
        reward = {"kind": "classifier", "model": pad_is_eos_model, **settings}
        members = [{"reward": reward}, {"reward": LENGTH, "weight": 0.5}]
        return EnsembleReward.Config(members=members).identity()

    assert identity(batch_tokens=7, device="cpu") == identity()
    assert identity(max_length=9) != identity()
    assert identity()["members"][1]["weight"] == 0.5


def test_models_of_all_members_count(pad_is_eos_model: str, tiny_model: str) -> None:
    classifier, ranker = (
        {"kind": "classifier", "model": pad_is_eos_model},
        {"kind": "ranker", "model": tiny_model},
    )
    options = EnsembleReward.Config(members=[{"reward": r} for r in (classifier, LENGTH, ranker)])
    assert build("reward", options).models == (pad_is_eos_model, tiny_model)


def test_a_mistake_in_a_member_is_named_with_its_place(tmp_path) -> None:
    from rayflow.config import load_config

    path = tmp_path / "run.yaml"
    path.write_text(
        "name: a\nmodel: m\nprompts: {train: {path: p}}\n"
        "reward: {kind: ensemble, members: [{reward: {kind: rule, functoin: 'm:f'}, wieght: 2}]}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert "reward.members.0.reward.functoin: unknown key. Did you mean 'function'?" in str(caught.value)
    assert "reward.members.0.wieght: unknown key. Did you mean 'weight'?" in str(caught.value)


def test_an_ensemble_waits_if_all_its_members_do() -> None:
    server = {"kind": "http", "url": "http://127.0.0.1:1/score"}
    rule = {"kind": "rule", "function": "rayflow.rewards.sentiment:compound"}

    def waits(*rewards: dict) -> bool:
        members = [{"name": str(i), "reward": reward} for i, reward in enumerate(rewards)]
        return EnsembleReward(EnsembleReward.Config(members=members)).waits

    assert waits(server, server) and not waits(server, rule)
