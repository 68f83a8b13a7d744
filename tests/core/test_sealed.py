"""Ray's token on this machine, and secrets that only a holder of it can read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rayflow.core.ray_token import RayToken, find_token
from rayflow.core.sealed import SEALED, seal, unseal
from rayflow.errors import ConfigError

PLANTED = "planted-secret-7c1e"


@pytest.fixture(autouse=True)
def nothing_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a token."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", SEALED, "MY_SECRET"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_token_is_looked_for_in_rays_own_order(
    nothing_known: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_token() is None
    (nothing_known / ".ray").mkdir()
    default = nothing_known / ".ray" / "auth_token"
    default.write_text("from-home\n")
    assert find_token() == RayToken("from-home", default)
    named = nothing_known / "named"
    named.write_text("from-file")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(named))
    assert find_token() == RayToken("from-file", named)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "from-variable")
    assert find_token() == RayToken("from-variable")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert find_token() is None


def test_a_token_says_who_can_read_it_and_never_itself(nothing_known: Path) -> None:
    path = nothing_known / "token"
    path.write_text(PLANTED)
    token = RayToken(PLANTED, path)
    path.chmod(0o644)
    assert token.exposed
    path.chmod(0o600)
    assert not token.exposed and not RayToken(PLANTED).exposed
    assert PLANTED not in repr(token)


def test_a_sealed_secret_opens_under_the_same_token_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", PLANTED)
    sealed = seal(["MY_SECRET"], RayToken("one"))
    assert PLANTED not in sealed and sealed != seal(["MY_SECRET"], RayToken("one"))
    monkeypatch.delenv("MY_SECRET")
    monkeypatch.setenv(SEALED, sealed)
    with pytest.raises(ConfigError, match="has no Ray token"):
        unseal()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "two")
    with pytest.raises(ConfigError, match="submitted with another one"):
        unseal()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "one")
    unseal()
    assert os.environ["MY_SECRET"] == PLANTED


def test_nothing_sealed_is_nothing_to_do() -> None:
    before = dict(os.environ)
    unseal()
    assert dict(os.environ) == before


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(
        ConfigError, match="--env MY_SECRET: the variable is not set.*--cluster-env MY_SECRET"
    ):
        seal(["MY_SECRET"], RayToken("one"))
