"""Pairwise and composite rewards for tests, named in configurations as plug-ins."""

from __future__ import annotations

import numpy as np

from rayflow.core.stats import sigmoid
from rayflow.errors import RewardError, StageError
from rayflow.rewards.pairwise import Pairwise, PairwiseOptions
from tests.pipeline.conftest import cheerful


class Counting(Pairwise):
    """Exact Bradley-Terry preferences on cheerfulness, counted over all instances."""

    class Config(PairwiseOptions):
        kind: str = "tests.pipeline.judges:Counting"
        turned: bool = False

    models = ()
    total = 0

    def setup(self) -> None:
        pass

    def compare(self, prompt, responses, pairs):
        Counting.total += len(pairs)
        return super().compare(prompt, responses, pairs)

    def judge(self, prompt, responses, pairs):
        quality = np.array([cheerful("", text) for text in responses]) * (-10 if self.options.turned else 10)
        return sigmoid(quality[pairs[:, 0]] - quality[pairs[:, 1]])


class Failing(Counting):
    """Scores every prompt, and fails to label one of them."""

    class Config(PairwiseOptions):
        kind: str = "tests.pipeline.judges:Failing"
        turned: bool = False

    def score(self, prompt, responses):
        return np.array([cheerful("", text) for text in responses])

    def judge(self, prompt, responses, pairs):
        if "number 3" in prompt.text:
            raise RewardError("context too long")
        return super().judge(prompt, responses, pairs)


class Closing(Counting):
    """Notes how often an instance was closed."""

    class Config(PairwiseOptions):
        kind: str = "tests.pipeline.judges:Closing"
        turned: bool = False

    closed = 0

    def close(self) -> None:
        Closing.closed += 1


class Breaking(Closing):
    """Meets an error that is no prompt's fault."""

    class Config(PairwiseOptions):
        kind: str = "tests.pipeline.judges:Breaking"
        turned: bool = False

    def judge(self, prompt, responses, pairs):
        raise StageError("out of memory")
