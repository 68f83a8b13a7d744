"""Names to classes, and what a person reads when a name is wrong."""

from __future__ import annotations

import pytest

from rayflow.core.registry import FAMILIES, load_object, resolve
from rayflow.errors import ConfigError

ENTRIES = [(family, kind) for family, table in FAMILIES.items() for kind in table]
# What the pipeline calls.
METHODS = {
    "engine": "generate",
    "reward": "score",
    "selection": "select",
    "pairing": "pair",
    "loss": "__call__",
    "judge": "answers",
    "layout": "example",
    "tracker": "log",
}


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Modules of a user's own package, on the import path."""
    (tmp_path / "their_rules.py").write_text(
        "from rayflow.core.options import KindOptions\n"
        "class Median:\n    class Config(KindOptions):\n        share: float = 0.5\n"
        "class Bare:\n    pass\n"
    )
    (tmp_path / "their_crash.py").write_text("1 / 0\n")
    (tmp_path / "their_needs.py").write_text("import a_package_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(("family", "kind"), ENTRIES)
def test_every_entry_resolves_to_a_class_whose_config_names_it(family, kind):
    chosen = resolve(family, kind)
    assert chosen.Config.model_fields["kind"].default == kind
    assert callable(getattr(chosen, METHODS[family]))
    assert chosen.__doc__ and "Config" in vars(chosen)


@pytest.mark.parametrize(
    ("family", "kind", "message"),
    [
        ("selection", "rejecton", "Unknown selection kind 'rejecton'. Did you mean 'rejection'"),
        ("pairing", "tournment", "Did you mean 'tournament'"),
        ("loss", "sigmoid", "Did you mean 'sigmoid_norm'"),
        ("reward", "zzz", "Unknown reward kind 'zzz'. Known: classifier, ensemble, http, ranker, rule"),
        ("reward", 3, "reward kind must be a name, not 3"),
        ("reward", ["rule"], "reward kind must be a name"),
        ("selection", "no_such_package:Rule", "cannot import 'no_such_package'.*PYTHONPATH"),
        ("selection", "their_needs:Rule", "a_package_nobody_has"),
        ("selection", "their_crash:Rule", "their_crash' fails on import with ZeroDivisionError"),
        ("selection", "their_rules:Medain", "has no 'Medain'. Did you mean 'Median'"),
        ("selection", "their_rules:Bare", "so it is not a selection"),
        ("selection", ":Rule", "must have the form 'module:name'"),
        ("selection", "their_rules:", "must have the form 'module:name'"),
    ],
)
def test_a_wrong_name_says_what_to_do(plugin, family, kind, message):
    with pytest.raises(ConfigError, match=message):
        resolve(family, kind)


def test_an_unknown_name_without_a_near_one_offers_none():
    with pytest.raises(ConfigError) as caught:
        resolve("reward", "zzz")
    assert "Did you mean" not in str(caught.value)


def test_a_users_own_class_needs_no_entry(plugin):
    assert resolve("selection", "their_rules:Median").__name__ == "Median"


def test_load_object_gives_any_attribute():
    assert load_object("math:pi", "number") == pytest.approx(3.14159, abs=1e-5)
