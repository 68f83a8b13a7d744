"""The configurations of a study: of its preferences, its reward model, each row's run, each row's evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayflow.config import Config, JobConfig, RunConfig, as_override, load_config, override
from rayflow.config.evaluate import EvaluateConfig, SideOptions
from rayflow.config.reward import RewardConfig
from rayflow.config.study import StudyConfig
from rayflow.errors import ConfigError
from rayflow.pipeline.evaluation_plan import build_evaluation_plan

PREFERENCES, PROXY = "{preferences}", "{proxy}"
"""What the configurations of rows and evaluations write for what the study makes."""
REWARDS = ("proxy", "gold")
"""The rewards that every row is measured by: the one that is learned from, and the one behind the preferences."""


@dataclass(frozen=True)
class Study:
    """A study with its parts, all checked.

    Attributes:
        config: the study itself.
        folder: where its configuration lies, from which the parts are named.
        overrides: settings "part.a.b=value" of the parts, such as "run.train.num_epochs=2".
    """

    config: StudyConfig
    folder: Path
    overrides: tuple[str, ...] = ()

    @property
    def preferences_file(self) -> Path:
        """The preference pairs that the study makes."""
        return self.config.root / "preferences.jsonl"

    def preferences(self) -> RunConfig:
        """The run whose pairs become the preferences."""
        return self._load("preferences", RunConfig, self.config.root, "preferences")

    def proxy(self) -> RewardConfig:
        """The training of the proxy reward on the preferences."""
        found = self._load("proxy", RewardConfig, self.config.root, "proxy")
        return filled(found, {PREFERENCES: str(self.preferences_file)})

    def base(self) -> RunConfig:
        """What all rows have in common; also the run that samples and scores for all of them."""
        found = self._load("run", RunConfig, self.config.root, "shared")
        if found.prompts.evaluation is not None or found.rounds.num > 1:
            raise ConfigError(
                f"{self._path('run')}: a study measures its rows itself, and runs each of them once. Remove "
                "prompts.evaluation and rounds."
            )
        return found

    def row(self, name: str, seed: int) -> RunConfig:
        """The run of one row and seed; its samples are drawn with the study's seed, whatever its own."""
        settings = {
            "runs_dir": str(self.config.root / "rows" / name),
            "name": f"seed-{seed}",
            "seed": seed,
            "sample.seed": self.config.seed,
            **self.config.all_rows[name].settings,
        }
        return override(self.base(), settings)

    def gold(self, name: str) -> RunConfig:
        """The run that scores a row's candidates by the gold reward instead of the row's own."""
        reward = self.evaluation(name, self.config.seed, self.config.model, {}).rewards["gold"]
        settings = {
            "runs_dir": str(self.config.root / "gold" / name),
            "name": "candidates",
            "reward": reward.model_dump(mode="json"),
        }
        return override(self.row(name, self.config.seeds[0]), settings)

    def measuring(self, name: str, seed: int, known: dict[str, str]) -> dict[str, Any]:
        """What decides a row's measurement but the row's model, by stage of its evaluation.

        Settings as the stages' own fingerprints have them, so none that only says where or how fast; prompts and
        models by their content, so that a study can be moved and a changed file is noticed.

        Args:
            name, seed: the row's.
            known: what the words in braces stand for.
        """
        # The SFT policy in the place of the row's, which is gone once it is measured: its training stands for it.
        plan = build_evaluation_plan(self.evaluation(name, seed, self.config.model, known))
        return {
            stage: {key: value for key, value in identity.items() if key != "inputs"}
            for stage, identity in plan.identities.items()
        }

    def evaluation(self, name: str, seed: int, model: str, known: dict[str, str]) -> EvaluateConfig:
        """The measurement of one row and seed.

        Args:
            name: the row's.
            seed: the row's; the evaluation itself draws with the study's, so that all rows meet the same answers.
            model: the folder of its trained model.
            known: what the words in braces stand for.
        """
        found = self._load(
            "evaluation", EvaluateConfig, self.config.root / "rows" / name, f"seed-{seed}-evaluation"
        )
        missing = [reward for reward in REWARDS if reward not in found.rewards]
        if missing:
            raise ConfigError(f"{self._path('evaluation')}: rewards must name {' and '.join(missing)}.")
        if found.kl is None:
            raise ConfigError(
                f"{self._path('evaluation')}: kl must not be null: a study's tables and charts show the divergence "
                "of every row. Remove the key for its defaults."
            )
        return filled(found, known).model_copy(update={"policy": SideOptions(model=model)})

    def parts(self) -> dict[str, JobConfig]:
        """What the study is made of, by part, as it is written: with the words in braces."""
        root = self.config.root
        return {
            "preferences": self.preferences(),
            "proxy": self._load("proxy", RewardConfig, root, "proxy"),
            "run": self.base(),
            "evaluation": self._load("evaluation", EvaluateConfig, root, "evaluation"),
        }

    def _path(self, part: str) -> Path:
        return self.folder / getattr(self.config.parts, part)

    def _load(self, part: str, schema: type[Config], runs_dir: Path, name: str) -> Config:
        config = self.config
        own = {"runs_dir": runs_dir, "name": name, "model": config.model}
        settings = [*(as_override(*each) for each in own.items()), f"seed={config.seed}"]
        if schema is EvaluateConfig:
            settings.append(as_override("policy", config.model))  # replaced by the row's, when that exists
            settings.append("baseline=sft")
        given = [text.removeprefix(f"{part}.") for text in self.overrides if text.startswith(f"{part}.")]
        return load_config(self._path(part), settings + given, schema)

    def _setting(self, row: str, path: str) -> Any:
        """What a row has at a dotted path."""
        value: Any = self.row(row, self.config.seeds[0]).model_dump(mode="json")
        for key in path.split("."):
            value = value[key]
        return value

    def check(self) -> None:
        """Every configuration of the study, before time is spent on any.

        Raises:
            ConfigError: one of them cannot be used.
        """
        self.preferences(), self.proxy()
        for name in self.config.all_rows:
            self.row(name, self.config.seeds[0]), self.gold(name)
        for key, sweep in self.config.sweeps.items():
            has = self._setting(sweep.row, sweep.setting)
            if has != sweep.own:
                raise ConfigError(
                    f"sweeps.{key}.own is {sweep.own:g}, and the row '{sweep.row}' has {sweep.setting}={has}: its "
                    f"result would be drawn at a value that it has not. Set sweeps.{key}.own={has}."
                )
        self.evaluation(next(iter(self.config.rows)), self.config.seeds[0], self.config.model, {})


def load_study(path: Path, overrides: list[str]) -> Study:
    """A study from its YAML file.

    Args:
        path: the file; its parts are named from its folder.
        overrides: "a.b=value" settings of the study, or of a part, whose name comes first.

    Raises:
        ConfigError: it, or one of its parts, cannot be used.
    """
    parts = tuple(f"{name}." for name in ("preferences", "proxy", "run", "evaluation"))
    own = [text for text in overrides if not text.startswith(parts)]
    study = Study(
        load_config(path, own, StudyConfig),
        path.absolute().parent,
        tuple(text for text in overrides if text.startswith(parts)),
    )
    study.check()
    return study


def known_words(study: Study, proxy: Path) -> dict[str, str]:
    """What the words in braces stand for; `proxy` is the folder of the trained reward model."""
    return {PREFERENCES: str(study.preferences_file), PROXY: str(proxy)}


def filled(config: Config, known: dict[str, str]) -> Config:
    """The configuration with the words in braces replaced by what they stand for."""

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(each) for key, each in value.items()}
        if isinstance(value, list):
            return [fill(each) for each in value]
        return known.get(value, value) if isinstance(value, str) else value

    return type(config).model_validate(fill(config.model_dump(mode="json")))
