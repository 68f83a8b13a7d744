"""A judge on an engine: the fake one, whose words are verdicts, and a tiny real one."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import ValidationError

from rayflow.core.options import build
from rayflow.errors import DataError
from rayflow.judges.base import JudgeSampling
from rayflow.judges.engine import EngineJudge
from rayflow.judges.verdict import parse_verdict

VERDICTS = {"kind": "fake", "words": ["Verdict: A", "Verdict: B", "Verdict: same", "no idea"]}


def judge(model: str = "judge", engine: dict | None = None, **options: object) -> EngineJudge:
    settings = {"kind": "engine", "model": model, "engine": engine or VERDICTS, **options}
    made = build("judge", EngineJudge.Config.model_validate(settings))
    made.setup()
    return made


def answers(made: EngineJudge, seed: int = 4096, num: int = 8, max_tokens: int = 40) -> tuple[str, ...]:
    return asyncio.run(made.answers("Which is better?", num, JudgeSampling(max_tokens=max_tokens), seed))


def test_answers_are_as_many_as_asked_for_and_follow_from_the_seed():
    first, again, other = answers(judge()), answers(judge()), answers(judge(), seed=8192)
    assert len(first) == 8 and first == again != other
    said = {parse_verdict(answer) for answer in (*first, *other)}
    assert said == {1.0, 0.0, 0.5, None}


def test_a_text_too_long_for_the_judge_concerns_that_item_only():
    with pytest.raises(DataError):
        answers(judge(engine={**VERDICTS, "max_model_len": 30}))


def test_the_engines_hardware_and_the_models_place_are_no_part_of_what_it_is():
    options = EngineJudge.Config(
        model="m", engine={"kind": "transformers", "device": "cpu", "dtype": "float32"}
    )
    assert "device" not in options.identity()["engine"] and options.identity()["engine"]["dtype"] == "float32"
    assert build("judge", options).models == ("m",)
    with pytest.raises(ValidationError, match="Unknown engine kind"):
        EngineJudge.Config(model="m", engine={"kind": "vlm"})


def test_a_chat_model_reads_one_turn_and_a_base_model_the_text(tiny_model, monkeypatch):
    read = []
    engine = {"kind": "transformers", "dtype": "float32", "device": "cpu"}
    for chat in ("auto", False):
        made = judge(tiny_model, engine, chat=chat)
        generate = made._engine.generate

        async def spy(ids, *rest, generate=generate, made=made):
            read.append(made._engine.tokenizer.decode(ids))
            return await generate(ids, *rest)

        monkeypatch.setattr(made._engine, "generate", spy)
        assert len(answers(made, num=2, max_tokens=4)) == 2
        made.close()
    assert read == [
        "<|im_start|>user\nWhich is better?<|im_end|>\n<|im_start|>assistant\n",
        "Which is better?",
    ]
