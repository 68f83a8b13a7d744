"""Keeps secrets out of what is shown and stored."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "***"
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@'\"]+(?=@)")
_PARAMETER = re.compile(r"(?<=[?&])([\w.-]+)=[^&\s'\"#)]+")
_KEY = re.compile(
    r"(?:^|[_\-.])"
    r"(?:(?:api|access|secret|private)[_-]?key|token|secret|passwd|password|pwd|credentials?|signature|sig|auth)$",
    re.IGNORECASE,
)
_OF_A_TOKENIZER = re.compile(
    r"(?:^|[_\-.])(?:bos|eos|pad|unk|sep|cls|mask|stop|start|end|eot|eom|image|audio|video|special|separator)"
    r"[_\-.]?token$",
    re.IGNORECASE,
)
"""Tokens that a model reads and writes."""
_IN_URLS = re.compile(r"(?:^|[_\-.])signature$", re.IGNORECASE)
"""A URL is signed for whoever holds it; the setting of that name says what goes in and what comes out."""
_SCHEMES = frozenset({"none", "basic", "bearer", "digest", "ntlm", "kerberos", "oauth", "oauth2", "iam"})
"""What a setting named `auth` may say: how somebody proves who they are, without the proof."""


def hide(text: str, *secrets: str) -> str:
    """`text` without these secrets, and without the user names, passwords and secret parameters of URLs."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, HIDDEN)
    text = _CREDENTIALS.sub(HIDDEN, text)
    return _PARAMETER.sub(
        lambda found: f"{found[1]}={HIDDEN}" if names_a_secret(found[1]) else found[0], text
    )


def names_a_secret(key: str) -> bool:
    """Whether a setting is called like something that must not be stored."""
    return _KEY.search(key) is not None and _OF_A_TOKENIZER.search(key) is None


def is_secret_parameter(key: str) -> bool:
    """The same of a parameter of a URL, where a plain "key" is one too."""
    return names_a_secret(key) or key.lower() == "key"


def secret_settings(settings: Any, path: str = "") -> list[str]:
    """Dotted names of the settings, at any depth, that hold the text of a secret."""
    if isinstance(settings, list | tuple):
        return [found for item in settings for found in secret_settings(item, path)]
    if not isinstance(settings, dict):
        return []
    found = []
    for key, value in settings.items():
        here = f"{path}.{key}".lstrip(".")
        if isinstance(value, str) and value and _holds_a_secret(str(key), value):
            found.append(here)
        found += secret_settings(value, here)
    return found


def _holds_a_secret(key: str, value: str) -> bool:
    harmless = _IN_URLS.search(key) or (key.lower() == "auth" and value.lower() in _SCHEMES)
    return names_a_secret(key) and not harmless


def shown(key: Any, value: Any) -> str:
    """A setting's value as an error message may show it."""
    return HIDDEN if isinstance(key, str) and names_a_secret(key) else hide(repr(value))
