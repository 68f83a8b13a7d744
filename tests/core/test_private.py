"""What is taken out of a text before it is shown, and what is not."""

from __future__ import annotations

import pytest

from rayflow.core.private import hide, is_secret_parameter, names_a_secret, secret_settings, shown


def test_secrets_and_the_passwords_of_urls_are_hidden() -> None:
    assert hide("Bearer abc123 refused", "abc123", "") == "Bearer *** refused"
    assert hide("GET https://me:pw@host/x?q=1 failed") == "GET https://***@host/x?q=1 failed"
    assert hide("GET http://h/x?a=1&api_key=abc#top") == "GET http://h/x?a=1&api_key=***#top"
    assert hide("write to me@host.org, see http://host/a@b") == "write to me@host.org, see http://host/a@b"


@pytest.mark.parametrize("key", ["token", "hf_token", "api_key", "apikey", "x-api-key", "PASSWORD", "sig"])
def test_names_of_secrets_are_known(key: str) -> None:
    assert names_a_secret(key)
    assert shown(key, "abc") == "***"


@pytest.mark.parametrize(
    "key", ["max_tokens", "token_env", "keyboard", "monkey", "batch_tokens", "path", "eos_token"]
)
def test_other_names_are_not(key: str) -> None:
    assert not names_a_secret(key)
    assert shown(key, 5) == "5"


def test_a_plain_key_is_a_secret_only_in_a_url() -> None:
    assert is_secret_parameter("key") and not names_a_secret("key") and not names_a_secret("prompt_key")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(
            (f"{name}_token", "</s>")
            for name in ("stop", "eos", "sep", "pad", "bos", "unk", "cls", "mask", "image")
        ),
        ("STOP-TOKEN", "</s>"),
        ("signature", "question -> answer"),
        ("auth", "none"),
        ("auth", "Bearer"),
    ],
)
def test_settings_that_only_sound_like_secrets_may_be_stored(key: str, value: str) -> None:
    assert secret_settings({"their": {key: value}}) == []


@pytest.mark.parametrize(
    "key",
    ["token", "api_token", "hf_token", "access_token", "stop_api_token", "password", "secret"]
    + ["api_key", "secret_key", "x-api-key", "sig", "auth"],
)
def test_secrets_are_refused_as_settings(key: str) -> None:
    assert secret_settings({"their": {key: "abc"}}) == [f"their.{key}"]


def test_a_signed_url_is_shown_without_its_signature() -> None:
    assert hide("GET http://h/x?X-Amz-Signature=abc failed") == "GET http://h/x?X-Amz-Signature=*** failed"


def test_settings_that_hold_secrets_are_found_at_any_depth() -> None:
    settings = {
        "a": {"token_env": "T", "hf_token": "x"},
        "b": [{"password": "y"}, {"token": None}],
        "token": "",
    }
    assert secret_settings(settings) == ["a.hf_token", "b.password"]
