"""The proxy win rate of a model folder: what training asks for to choose its checkpoint."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rayflow.core.chat import prompt_token_ids
from rayflow.core.evaluation_rows import Answered, Answers
from rayflow.core.options import KindOptions, build
from rayflow.core.rows import cut_short
from rayflow.core.schema import from_table
from rayflow.core.seeds import sampling_seed
from rayflow.engines.base import Engine, Generation, SamplingOptions
from rayflow.errors import DataError, RewardError
from rayflow.evaluation.pairwise import compare_all
from rayflow.evaluation.win_rate import compare
from rayflow.pipeline.stage import row_failure
from rayflow.rewards.base import close_reward, is_pairwise
from rayflow.rewards.scoring import scores_of


@dataclass(frozen=True)
class ProxyJudge:
    """Samples from a model folder on this worker and compares with stored, scored responses.

    Attributes:
        rows: Parquet file with the validation prompts and the baseline's responses: `Answered` rows, or `Answers`
            where the reward is pairwise.
        engine: samples here; the transformers engine, since the worker's process holds the model anyway.
        sampling: how the policy answers.
        reward: the one that scored the baseline.
        seed: the run's.
        max_failed_fraction: the run's (see `training.choice.Judge`).
    """

    rows: Path
    engine: KindOptions
    sampling: SamplingOptions
    reward: KindOptions
    seed: int
    max_failed_fraction: float

    def __call__(self, model_dir: Path, rank: int, world_size: int) -> tuple[float, int, int]:
        """See `training.choice.Judge`. A prompt without an answer, or whose answers have no score, does not count."""
        engine, reward = build("engine", self.engine), build("reward", self.reward)
        with contextlib.ExitStack() as ends:
            # Before `setup`: one that fails half-way has started something, too.
            ends.callback(close_reward, reward)
            ends.callback(engine.close)
            engine.setup(str(model_dir))
            reward.setup()
            view = Answers if is_pairwise(reward) else Answered
            rows = from_table(pq.read_table(self.rows), view)[rank::world_size]
            return *self._wins(engine, reward, rows), len(rows)

    def _wins(self, engine: Engine, reward: Any, rows: Sequence[Any]) -> tuple[float, int]:
        """The sum of the win shares on these prompts, and how many of them count; of the others it is said why."""
        wins, count = 0.0, 0
        for row, made in zip(rows, asyncio.run(self._answers(engine, rows)), strict=True):
            try:
                wins += _win_share(reward, row, made)
                count += 1
            except Exception as error:
                failure = row_failure(
                    row.prompt_id, "comparison failed", error, (reward,), RewardError, DataError
                )
                print(f"Validation prompt {row.prompt_id} does not count: {failure.detail}", flush=True)
        return wins, count

    async def _answers(self, engine: Engine, rows: Sequence[Answers]) -> list[Generation | DataError]:
        """The policy's answers, or why there are none; all prompts are in the engine's hands together."""
        return await asyncio.gather(*(self._answer(engine, row) for row in rows))

    async def _answer(self, engine: Engine, row: Answers) -> Generation | DataError:
        seed = sampling_seed(self.seed, "validate", row.prompt_id)
        try:
            return await engine.generate(prompt_token_ids(engine.tokenizer, row), self.sampling, seed)
        except DataError as error:
            return error


def _win_share(reward: Any, row: Any, made: Generation | DataError) -> float:
    """Of the policy's answers against the baseline's to one prompt."""
    if isinstance(made, DataError):
        raise made
    cut = cut_short(made.finish_reasons)
    if is_pairwise(reward):
        return float(compare_all(reward, row, made.responses, cut).mean())
    return compare(scores_of(reward, row, made.responses, cut), row.rewards)[0]
