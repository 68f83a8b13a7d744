"""What a stage was made from, as JSON: its fingerprint, and what two of them differ in."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def fingerprint(identity: dict[str, Any]) -> str:
    """16 hexadecimal digits over the canonical JSON of an identity."""
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def differences(stored: Any, wanted: Any, path: str = "") -> list[str]:
    """One line per leaf that differs between two JSON values: "config.beta: stored 0.5, now 0.2"."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        keys = [*stored, *(key for key in wanted if key not in stored)]
        missing = "(absent)"
        return [
            line
            for key in keys
            for line in differences(stored.get(key, missing), wanted.get(key, missing), f"{path}.{key}")
        ]
    return [] if stored == wanted else [f"{path.lstrip('.')}: stored {stored!r}, now {wanted!r}"]
