"""The configuration of `rayflow evaluate`: a policy beside another one, on prompts, by several judges."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from rayflow.config.blocks import ComputeOptions, PoolOptions, PromptSource
from rayflow.config.gpus import check_engine, check_room, computed_by_vllm
from rayflow.config.run import JobConfig
from rayflow.config.side_by_side import SideBySideOptions
from rayflow.core.options import EngineOptions, MemberOptions, Options
from rayflow.engines.base import SamplingOptions


class SideOptions(Options):
    """Who answers; one of these. A word stands for itself (`sft`, `target`), the folder of a run for the run, any other
    text for a model.

    Attributes:
        model: a policy, a local folder or a hub id, which samples here.
        run: a run's folder; the model that it trained samples here.
        responses: a file of given responses to the same prompts, as `responses`, `target` or `completion`.
        target: the prompts' own targets.
        sft: the SFT policy, the configuration's `model`.
    """

    model: str | None = None
    run: str | None = None
    responses: PromptSource | None = None
    target: bool = False
    sft: bool = False

    @model_validator(mode="before")
    @classmethod
    def _of_word(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {data: True} if data in ("sft", "target") else {_named(data): data}
        return data

    @model_validator(mode="after")
    def _exactly_one(self) -> SideOptions:
        if len(self._given()) != 1:
            raise ValueError(f"give one of {', '.join(SideOptions.model_fields)}")
        return self

    def _given(self) -> list[str]:
        return [name for name in SideOptions.model_fields if getattr(self, name)]

    @property
    def kind(self) -> str:
        """Which of them it is."""
        return self._given()[0]

    @property
    def samples(self) -> bool:
        """Whether a model answers here."""
        return self.kind in ("model", "run", "sft")


def _named(text: str) -> Literal["run", "model"]:
    """What a path names. A run's folder has no config.json, which every model's has."""
    folder = Path(text).expanduser()
    if (folder / "config.json").exists():
        return "model"
    is_run = (folder / "config.yaml").exists() or any(folder.glob("round-*/config.yaml"))
    return "run" if is_run else "model"


class DrawOptions(SamplingOptions):
    """How both sides answer, and by which engine. Each side's draws are its own.

    Attributes:
        num_candidates: responses of each side to each prompt; all of one side meet all of the other.
        num_baseline_candidates: responses of the baseline, if not as many. More of them make the win rate more
            precise and cost once what a study's evaluations share. Diversity counts equally many of both.
    """

    engine: EngineOptions = Field(default={"kind": "vllm"}, validate_default=True)
    num_candidates: int = Field(default=8, gt=0)
    num_baseline_candidates: int | None = Field(default=None, gt=0)

    def drawing(self, side: str) -> SamplingOptions:
        """How the "policy" or the "baseline" draws, without the engine."""
        fields = {name: getattr(self, name) for name in SamplingOptions.model_fields}
        if side == "baseline" and self.num_baseline_candidates:
            fields["num_candidates"] = self.num_baseline_candidates
        return SamplingOptions(**fields)

    @property
    def fewest(self) -> int:
        """Responses that both sides have, where both sample."""
        return min(self.num_candidates, self.num_baseline_candidates or self.num_candidates)

    @property
    def is_plain(self) -> bool:
        """Whether responses follow the policy itself, neither tempered nor truncated."""
        return self.temperature == 1 and self.top_k == 0 and self.top_p == 1


class DivergenceOptions(Options):
    """KL(policy || SFT), on samples of the policy that are neither tempered nor truncated.

    Attributes:
        num_samples: drawn for this alone, for each prompt; unless `sample` draws plainly, whose samples serve.
        precision: of both models' passes over them.
        batch_tokens: padded tokens per forward pass.
    """

    num_samples: int = Field(default=4, gt=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    batch_tokens: int = Field(default=4096, gt=0)


class IntervalOptions(Options):
    """The bootstrap intervals over prompts.

    Attributes:
        confidence: of each interval.
        num_resamples: bootstrap resamples.
    """

    confidence: float = Field(default=0.95, gt=0, lt=1)
    num_resamples: int = Field(default=10_000, gt=0)


class EvaluateComputeOptions(ComputeOptions):
    """As for a run. `judge` holds the judge of the side-by-side comparison; null: where and as wide as `sample`, or
    one worker without a GPU where an endpoint answers."""

    judge: PoolOptions | None = None


class EvaluateConfig(JobConfig):
    """One evaluation. Its `model` is the SFT policy: divergence is measured from it, and it is the baseline unless
    another one is named. Its tokenizer counts the tokens of given responses.

    Attributes:
        policy: what is evaluated.
        baseline: what it is compared with.
        prompts: with targets, where a side or a reward reads them. Those of another task make it cross-task.
        rewards: any number by name, such as `proxy` and `gold`; the first one makes the headline.
        kl: null leaves it out, as do given responses of the policy.
        side_by_side: the judge, if any.
        max_failed_fraction: a stage stops when more than this share of its rows failed.
        The blocks are documented at their classes.
    """

    policy: SideOptions
    baseline: SideOptions = Field(default="sft", validate_default=True)
    prompts: PromptSource
    sample: DrawOptions = DrawOptions()
    rewards: dict[str, MemberOptions] = {}
    kl: DivergenceOptions | None = None
    side_by_side: SideBySideOptions | None = None
    interval: IntervalOptions = IntervalOptions()
    max_failed_fraction: float = Field(default=0.05, ge=0, le=1)
    compute: EvaluateComputeOptions = EvaluateComputeOptions()

    @model_validator(mode="before")
    @classmethod
    def _measures_divergence(cls, data: Any) -> Any:
        """Where the policy samples, its divergence is measured unless that is refused."""
        if isinstance(data, dict) and "kl" not in data and isinstance(data.get("policy"), str | dict):
            policy = data["policy"]
            given = {policy} if isinstance(policy, str) else {key for key, value in policy.items() if value}
            samples = not given & {"target", "responses"}
            data = {**data, "kl": {} if samples else None}
        return data

    @field_validator("rewards")
    @classmethod
    def _names_are_plain(cls, rewards: dict[str, Any]) -> dict[str, Any]:
        for name in rewards:
            if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
                raise ValueError(f"'{name}' names a folder: use letters, digits, - and _")
        return rewards

    @model_validator(mode="after")
    def _fits(self) -> EvaluateConfig:
        if not self.rewards and self.side_by_side is None:
            raise ValueError(
                "nothing judges the responses: name a reward under rewards, or a side_by_side judge"
            )
        if self.kl is not None and not self.policy.samples:
            raise ValueError("kl needs a policy that samples; this one's responses are given: set kl to null")
        if self.sample.num_baseline_candidates and not self.baseline.samples:
            raise ValueError(
                "sample.num_baseline_candidates needs a baseline that samples; this one's responses are given: "
                "remove it"
            )
        if self.policy == self.baseline:
            raise ValueError("policy and baseline are the same")
        check_room("sample", self.sample.engine, self.sample.max_tokens)
        self._check_items()
        self._check_gpus()
        return self

    def _check_items(self) -> None:
        """Refuse more items a prompt than the sides have responses; how many a file brings is not known here."""
        counts = [
            self.sample.drawing(name).num_candidates if side.samples else 1
            for name, side in (("policy", self.policy), ("baseline", self.baseline))
            if side.samples or side.target
        ]
        if self.side_by_side is not None and self.side_by_side.num_items > min(counts, default=math.inf):
            raise ValueError(
                f"side_by_side.num_items is {self.side_by_side.num_items}, and one of the sides has {min(counts)} "
                "response(s) to a prompt, each beside one of the other: lower it, or raise sample.num_candidates"
            )

    def _check_gpus(self) -> None:
        compute = self.compute
        check_engine("sample.engine", self.sample.engine, "compute.sample", compute.sample)
        for name, reward in self.rewards.items():
            if computed_by_vllm(reward):
                check_engine(f"rewards.{name}", reward, "compute.score", compute.score)
        engine = getattr(self.side_by_side and self.side_by_side.judge, "engine", None)
        if engine is not None:
            key = "compute.sample" if compute.judge is None else "compute.judge"
            check_engine("side_by_side.judge.engine", engine, key, compute.judge or compute.sample)

    @property
    def sources(self) -> tuple[PromptSource, ...]:
        """Every file or folder that rows are read from."""
        files = (self.policy.responses, self.baseline.responses)
        return (self.prompts, *(source for source in files if source is not None))
