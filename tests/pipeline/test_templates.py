"""Prompts that a chat template refuses: failures of their rows, in sampling and in scoring."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jinja2 import TemplateError

from rayflow.config import RunConfig
from rayflow.engines.fake import ByteTokenizer
from tests.pipeline.helpers import run_data


@pytest.fixture
def chats(settings: dict, tmp_path: Path) -> RunConfig:
    """Ten chat prompts, one of which has two turns of the user in a row."""
    turns = [[{"role": "user", "content": f"Tell me of number {i}."}] for i in range(10)]
    turns[3] *= 2
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in turns))
    settings["prompts"] = {"train": {"path": str(path)}}
    return RunConfig.model_validate({**settings, "max_failed_fraction": 0.2})


def test_a_prompt_that_the_template_refuses_fails_alone(
    chats: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ByteTokenizer.apply_chat_template

    def strict(self: ByteTokenizer, messages: list, **settings: object) -> object:
        if any(a["role"] == b["role"] for a, b in zip(messages, messages[1:], strict=False)):
            raise TemplateError("Conversation roles must alternate")
        return whole(self, messages, **settings)

    monkeypatch.setattr(ByteTokenizer, "apply_chat_template", strict)
    plan, _ = run_data(chats)
    (failure,) = plan.artifacts["sample"].shards.failures()
    assert failure.reason == "prompt cannot be encoded" and "roles must alternate" in failure.detail
    assert plan.artifacts["pair"].manifest().num_rows == 9
