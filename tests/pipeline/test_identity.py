"""What a stage was made from: its fingerprint, and what two of them differ in."""

from __future__ import annotations

from rayflow.pipeline.identity import differences, fingerprint


def test_differences_name_every_field() -> None:
    stored = {"config": {"beta": 0.5, "k": 8}, "inputs": {"score": "a"}}
    wanted = {"config": {"beta": 0.2, "k": 8, "new": 1}, "inputs": {"score": "b"}}
    assert differences(stored, wanted) == [
        "config.beta: stored 0.5, now 0.2",
        "config.new: stored '(absent)', now 1",
        "inputs.score: stored 'a', now 'b'",
    ]
    assert fingerprint(stored) == fingerprint(dict(reversed(stored.items()))) != fingerprint(wanted)
