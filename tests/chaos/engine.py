"""The fake engine with its drawing in a process of its own, as vLLM has it: so that it can be killed alone."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from typing import Any

import numpy as np

from rayflow.engines.base import Generation, SamplingOptions
from rayflow.engines.fake import FakeEngine
from rayflow.errors import EngineDeadError


class ChildEngine(FakeEngine):
    """Gives what the fake engine gives, from its child."""

    class Config(FakeEngine.Config):
        """Settings of the fake engine."""

        kind: str = "tests.chaos.engine:ChildEngine"

    def setup(self, model: str) -> None:
        """Start the child; it ends with this process, whose end of the pipe it waits on."""
        super().setup(model)
        self._child = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.chaos.engine",
                self.options.model_dump_json(exclude={"kind"}),
                model,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._one_at_a_time = asyncio.Lock()

    async def generate(
        self, prompt_token_ids: np.ndarray, sampling: SamplingOptions, seed: int
    ) -> Generation:
        """Ask the child.

        Raises:
            EngineDeadError: it is gone.
        """
        request = [np.asarray(prompt_token_ids).tolist(), sampling.model_dump(), seed]
        async with self._one_at_a_time:
            made = await asyncio.to_thread(self._ask, json.dumps(request))
        return Generation(
            responses=tuple(made["responses"]),
            token_ids=tuple(np.array(ids, np.int32) for ids in made["token_ids"]),
            logprobs=np.array(made["logprobs"], np.float32),  # a float32 comes back from JSON as it was
            finish_reasons=tuple(made["finish_reasons"]),
        )

    def _ask(self, line: str) -> dict[str, Any]:
        try:
            self._child.stdin.write(line + "\n")
            self._child.stdin.flush()
            answer = self._child.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise EngineDeadError("The child has died; its worker must be replaced.")
        return json.loads(answer)

    def close(self) -> None:
        """End the child."""
        self._child.stdin.close()
        self._child.wait()


def serve(options: str, model: str) -> None:
    """The child: a request a line, an answer a line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches it too; its parent ends it
    engine = FakeEngine(FakeEngine.Config.model_validate_json(options))
    engine.setup(model)
    for line in sys.stdin:
        ids, sampling, seed = json.loads(line)
        made = asyncio.run(engine.generate(np.array(ids, np.int32), SamplingOptions(**sampling), seed))
        answer = {
            "responses": made.responses,
            "token_ids": [ids.tolist() for ids in made.token_ids],
            "logprobs": [float(value) for value in made.logprobs],
            "finish_reasons": made.finish_reasons,
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
