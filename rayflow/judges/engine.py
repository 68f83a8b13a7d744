"""A judge on one of the sampling engines: vLLM, or transformers where there is none."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from rayflow.core.chat import prompt_token_ids
from rayflow.core.options import EngineOptions, KindOptions, build
from rayflow.core.rows import Prompt
from rayflow.engines.base import Engine, SamplingOptions
from rayflow.judges.base import JudgeSampling


class EngineJudge:
    """Holds one engine; all answers to one text are one request, so the text is computed once."""

    class Config(KindOptions):
        """Settings of `engine`.

        Attributes:
            model: the judge, a local folder or a hub id.
            engine: what runs it.
            chat: the text is one user's turn of the chat template; "auto" where the model has a template.
                Without, the model continues the text, which suits a base model.
        """

        kind: str = "engine"
        model: str
        engine: EngineOptions = Field(default={"kind": "vllm"}, validate_default=True)
        chat: bool | Literal["auto"] = "auto"

        def identity(self) -> dict[str, Any]:
            """What decides the result: of the engine what it says of itself."""
            return {**super().identity(), "engine": self.engine.identity()}

    def __init__(self, options: Config) -> None:
        self.options = options

    @property
    def models(self) -> tuple[str, ...]:
        """The judge's model."""
        return (self.options.model,)

    def setup(self) -> None:
        """Start the engine."""
        self._engine: Engine = build("engine", self.options.engine)
        self._engine.setup(self.options.model)
        has_template = getattr(self._engine.tokenizer, "chat_template", None) is not None
        self._chat = has_template if self.options.chat == "auto" else self.options.chat

    async def answers(self, text: str, num: int, sampling: JudgeSampling, seed: int) -> tuple[str, ...]:
        """See `Judge.answers`."""
        turns = ({"role": "user", "content": text},) if self._chat else ()
        prompt = Prompt(prompt_id="", prompt=None if self._chat else text, messages=turns, target=None)
        drawn = SamplingOptions(
            num_candidates=num,
            temperature=sampling.temperature,
            top_k=0,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
        )
        ids = prompt_token_ids(self._engine.tokenizer, prompt)
        return (await self._engine.generate(ids, drawn, seed)).responses

    def close(self) -> None:
        """Stop the engine."""
        if hasattr(self, "_engine"):
            self._engine.close()
