"""Options: frozen, strict, and chosen by `kind`."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rayflow.core.options import (
    EngineOptions,
    InvalidChoiceError,
    KindOptions,
    Options,
    PairingOptions,
    RewardOptions,
    SelectionOptions,
    build,
)
from rayflow.errors import ConfigError
from rayflow.pairing.first_round import FirstRound
from rayflow.pairing.tournament import Tournament
from rayflow.rewards.classifier import ClassifierReward
from rayflow.selection.rejection import RejectionSampling


class Recipe(Options):
    """A configuration in miniature."""

    selection: SelectionOptions = RejectionSampling.Config()
    pairing: PairingOptions = FirstRound.Config()
    reward: RewardOptions | None = None
    engine: EngineOptions | None = None


def refusal(**values) -> str:
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate(values)
    return str(caught.value)


def test_a_kind_alone_is_enough():
    assert Recipe.model_validate({"pairing": "tournament"}).pairing == Tournament.Config()


def test_settings_become_the_class_that_kind_names():
    recipe = Recipe.model_validate({"selection": {"kind": "rejection", "beta": 0.05}})
    assert recipe.selection == RejectionSampling.Config(beta=0.05)
    assert type(recipe.selection) is RejectionSampling.Config


def test_without_a_kind_the_papers_choice_holds_where_there_is_one():
    assert Recipe.model_validate({"selection": {"beta": 2}}).selection == RejectionSampling.Config(beta=2)
    assert "needs a 'kind': one of classifier, ensemble, http, ranker, rule" in refusal(reward={"model": "x"})


def test_options_already_built_pass_as_they_are():
    built = RejectionSampling.Config(beta=0.1)
    assert Recipe(selection=built).selection is built


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"selection": "rejecton"}, ["selection", "Did you mean 'rejection'"]),
        ({"selection": {"kind": "rejection", "bta": 1}}, ["bta", "Extra inputs"]),
        ({"selection": {"kind": "rejection", "beta": -1}}, ["beta", "greater than or equal to 0"]),
        ({"selection": {"kind": "rejection", "beta": float("inf")}}, ["beta", "finite"]),
        (
            {"selection": {"kind": "tests.core.test_options:NoOptions"}},
            ["no nested class Config(KindOptions)"],
        ),
        ({"selection": {"kind": 7}}, ["selection kind must be a name, not 7"]),
        ({"selection": 7}, ["selection"]),
        ({"pairing": {"kind": "tournament", "ties": "keep"}}, ["ties", "'drop' or 'random'"]),
        ({"reward": {"kind": "rule", "function": "len"}}, ["function", "pattern"]),
        ({"selecton": "rejection"}, ["selecton", "Extra inputs"]),
    ],
)
def test_a_mistake_names_its_key(values, words):
    message = refusal(**values)
    for word in words:
        assert word in message


def test_a_mistake_inside_a_choice_keeps_its_own_error():
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate({"selection": {"beta": -1}})
    (error,) = caught.value.errors()
    cause = error["ctx"]["error"]
    assert isinstance(cause, InvalidChoiceError)
    assert cause.error.errors()[0]["loc"] == ("beta",)
    assert cause.model is RejectionSampling.Config


def test_options_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        RejectionSampling.Config().beta = 1.0


def test_a_dump_holds_the_chosen_classes_own_fields_and_reads_back():
    recipe = Recipe.model_validate({"selection": {"beta": 0.05}, "pairing": "tournament"})
    dumped = recipe.model_dump(mode="json")
    assert dumped["selection"] == {
        "kind": "rejection",
        "num_accepted": 8,
        "shortfall": "keep",
        "max_resamples": 2,
        "beta": 0.05,
        "shuffle": True,
        "maximum": "pass",
        "text_keyed": False,
    }
    assert Recipe.model_validate(dumped) == recipe


def test_the_identity_leaves_the_hardware_out_and_nothing_else():
    """Nor where a model lies: its content belongs to the stage's fingerprint."""
    here = ClassifierReward.Config(model="m", device="cpu", batch_tokens=100)
    there = ClassifierReward.Config(model="moved", device="cuda", batch_tokens=9000)
    assert here.identity() == there.identity()
    assert here.identity() != ClassifierReward.Config(model="m", max_length=100).identity()
    assert here.identity() != ClassifierReward.Config(model="m", dtype="float32").identity()


class NoOptions:
    """A plug-in whose Config is any class."""

    class Config:
        """Not of ours."""


class TakesNothing:
    """A plug-in that was written without an __init__."""

    class Config(KindOptions):
        """No settings."""

        kind: str = "tests.core.test_options:TakesNothing"


def test_a_plug_in_that_does_not_take_its_options_is_told_so():
    with pytest.raises(ConfigError, match=r"needs an __init__\(self, options\)"):
        build("loss", TakesNothing.Config())


def test_build_makes_the_class_with_its_options():
    options = Tournament.Config(ties="random")
    built = build("pairing", options)
    assert type(built) is Tournament
    assert built.options is options
