"""What a study has found: read from its folder, or from the `study.json` that was written of it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from rayflow import __version__
from rayflow.config.load import load_options
from rayflow.config.study import StudyConfig
from rayflow.core.files import read_json
from rayflow.errors import ArtifactError
from rayflow.pipeline.reward_plan import build_reward_plan
from rayflow.report.summary import strict
from rayflow.study.comparison import Column, Comparison, compare
from rayflow.study.pair_quality import PairQuality
from rayflow.study.parts import Study
from rayflow.study.results import RowResult, RowSummary, pairs_path, summarise
from rayflow.study.run import check_results, stored_results
from rayflow.study.tables import Table, make_table, sweep_table


@dataclass(frozen=True)
class Found:
    """A study's results, put together.

    Attributes:
        config: the study.
        results: each row with each seed.
        proxy: the reward model's quality on held-out pairs, as its training reports it; None before.
        pairs: what each row's pairs are worth by the gold reward; empty until every row is measured.
    """

    config: StudyConfig
    results: tuple[RowResult, ...]
    proxy: dict[str, Any] | None
    pairs: Mapping[str, PairQuality] = field(default_factory=dict)

    @cached_property
    def rows(self) -> dict[str, RowSummary]:
        """Each row over its seeds."""
        return {
            name: summarise(list(each)) for name, each in groupby(self.results, key=lambda result: result.row)
        }

    @property
    def tables(self) -> list[Table]:
        """Those of the configuration, then one for each sweep."""
        found = self.config, self.rows, self.pairs
        made = [make_table(table, *found) for table in self.config.tables.values()]
        return made + [sweep_table(key, *found) for key in self.config.sweeps]

    @cached_property
    def comparisons(self) -> dict[str, Comparison]:
        """By heading of a paper's column (see `compare`)."""
        return compare(self.rows, self.papers, len(self.config.seeds))

    @property
    def papers(self) -> dict[str, Column]:
        """The papers' columns, in percent, by heading: with the table's title, and its key where two have the same."""
        tables = self.config.tables
        titles = Counter(table.title for table in tables.values())
        return {
            f"{table.title}{f' ({key})' if titles[table.title] > 1 else ''}: {name}": Column(name, numbers)
            for key, table in tables.items()
            for name, numbers in table.paper.items()
        }


def collect(study: Study) -> Found:
    """What a study has so far.

    Raises:
        ArtifactError: a row was measured with another configuration than the study's now.
    """
    check_results(study)
    quality = build_reward_plan(study.proxy()).artifacts["evaluate"]
    proxy = quality.manifest().extra["quality"] if quality.committed else None
    path = pairs_path(study.config.root)
    pairs = _qualities(read_json(path)) if path.exists() else {}
    return Found(study.config, tuple(stored_results(study)), proxy, pairs)


def restored(path: Path, overrides: list[str]) -> Found:
    """What a `study.json` says, without the study's folder.

    Args:
        path: the file.
        overrides: "a.b=value" settings, such as `notes`; what was measured stays as it is.

    Raises:
        ArtifactError: it is not such a file.
        ConfigError: a setting does not fit.
    """
    data = read_json(path)
    try:
        config, prompts = data["config"], data["prompts"]
        results = tuple(_unpacked(each, prompts) for each in data["results"])
        proxy, pairs = data["proxy"], _qualities(data["pairs"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is no study.json of this version (it lacks {error}).") from error
    return Found(load_options(config, overrides, StudyConfig, str(path)), results, proxy, pairs)


def _qualities(data: Mapping[str, dict[str, Any]]) -> dict[str, PairQuality]:
    return {name: PairQuality(**each) for name, each in data.items()}


def as_json(found: Found) -> str:
    """The content of `study.json`: the resolved study, the proxy's quality, every row with every seed.

    Each result is one line; its win shares stand in the order of `prompts`, null for a prompt that failed.
    """
    names = {name for r in found.results for reward in r.rewards.values() for name in reward.wins}
    prompts = sorted(names)
    content = {
        "rayflow_version": __version__,
        "config": found.config.model_dump(mode="json", exclude={"runs_dir"}),
        "proxy": found.proxy,
        "pairs": {name: asdict(each) for name, each in found.pairs.items()},
        "rows": {
            name: {k: v for k, v in asdict(row).items() if k != "shares"} for name, row in found.rows.items()
        },
        "comparisons": {name: asdict(c) for name, c in found.comparisons.items()},
    }
    text = json.dumps(strict(content), indent=1, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
    lines = [
        json.dumps(strict(_packed(r, prompts)), ensure_ascii=False, allow_nan=False) for r in found.results
    ]
    results = ",\n  ".join(lines)
    return f'{text},\n "prompts": {json.dumps(prompts)},\n "results": [\n  {results}\n ]\n}}\n'


def _packed(result: RowResult, prompts: list[str]) -> dict[str, Any]:
    data = result.to_json()
    for reward in data["rewards"].values():
        reward["wins"] = [reward["wins"].get(name) for name in prompts]
    return data


def _unpacked(data: dict[str, Any], prompts: list[str]) -> RowResult:
    rewards = {}
    for name, reward in data["rewards"].items():
        numbers = {key: math.nan if value is None else value for key, value in reward.items()}
        shares = zip(prompts, reward["wins"], strict=True)
        rewards[name] = {**numbers, "wins": {prompt: share for prompt, share in shares if share is not None}}
    return RowResult.from_json({**data, "rewards": rewards})
