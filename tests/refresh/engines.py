"""Engines that say what they were asked for."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from rayflow.engines.fake import FakeEngine


class CountingEngine(FakeEngine):
    """The fake engine, with a line in `log` for every prompt that it answers."""

    class Config(FakeEngine.Config):
        """The fake engine's settings, and where to write."""

        HARDWARE = frozenset({"latency_seconds", "log"})

        kind: str = "tests.refresh.engines:CountingEngine"
        log: str = ""

    async def generate(self, prompt_token_ids, sampling, seed):  # noqa: ANN001, ANN201
        """See `Engine.generate`."""
        with open(self.options.log, "a", encoding="utf-8") as file:
            file.write(self.tokenizer.decode(prompt_token_ids).replace("\n", " ") + "\n")
        return await super().generate(prompt_token_ids, sampling, seed)


def asked(log: Path) -> list[str]:
    """The prompts that were answered so far; the log starts anew."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def gloomy(prompt: str, response: str) -> float:
    """Another reward, whose scale differs."""
    return -5.0 - len(response)


def flaky(prompt: str, response: str) -> float:
    """The tests' reward, but for a share of the prompts, FLAKY_SHARE, that it cannot judge."""
    from tests.pipeline.conftest import cheerful

    if zlib.crc32(prompt.encode()) % 1000 < 1000 * float(os.environ.get("FLAKY_SHARE", "0")):
        raise ValueError("no judgement")
    return cheerful(prompt, response)
