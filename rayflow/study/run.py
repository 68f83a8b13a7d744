"""Runs a study: preferences, proxy, shared samples and scores, then every row with every seed.

runs/<study>/preferences/, preferences.jsonl    pairs labelled by the gold reward
runs/<study>/proxy/                             the reward model that is trained on them
runs/<study>/shared/                            prompts, samples and scores of all rows
runs/<study>/rows/<row>/seed-<s>/               one run; stages that another row made are shared as files
runs/<study>/rows/<row>/seed-<s>.json           what was measured: the row is done once this exists
runs/<study>/rows/<row>/seed-<s>.seconds        until then, what all calls took for it
runs/<study>/gold/<row>/candidates/             gold rewards of a row's candidates, one for all rows that share them
runs/<study>/pairs.json                         what each row's pairs are worth by them
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from rayflow.config import JobConfig
from rayflow.core.files import read_json, write_json
from rayflow.core.verbatim import verbatim
from rayflow.errors import ArtifactError, DataError, ModelError
from rayflow.pipeline.candidates import num_resamples
from rayflow.pipeline.commands import make_runner
from rayflow.pipeline.evaluation_plan import build_evaluation_plan
from rayflow.pipeline.execute import Pipeline, open_run
from rayflow.pipeline.export import write_trl
from rayflow.pipeline.identity import differences
from rayflow.pipeline.pace import clock
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.reward_plan import build_reward_plan
from rayflow.pipeline.reward_report import report as write_reward_report
from rayflow.pipeline.rounds import SELECTING, SHARED
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.pipeline.share import Shelf, same_making
from rayflow.pipeline.stopwatch import stopwatch
from rayflow.study.pair_quality import judge_pairs
from rayflow.study.parts import Study, filled, known_words
from rayflow.study.results import RowResult, pairs_path, result_of, result_path


class StudyRun:
    """The execution of one study; running it again goes on where it stopped.

    Args:
        study: what to do.
        console: for the person who waits.
    """

    def __init__(self, study: Study, console: Console) -> None:
        self._study = study
        self._console = console
        self._shelf = Shelf()

    def run(self) -> None:
        """Bring every row to its result.

        Raises:
            RayflowError: see the stages; what was finished stays.
        """
        config = self._study.config
        with open_run(config):
            (config.root / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
            known = self._make_proxy()
            self._run(build_run_plan(self._shared(known)), SHARED)
            self._stock()
            todo = [(name, seed) for seed in config.seeds for name in config.all_rows]
            started, done = time.monotonic(), 0
            for number, (name, seed) in enumerate(todo, start=1):
                fresh = self._row(name, seed, known)
                done += fresh
                if fresh:
                    left = (time.monotonic() - started) / done * (len(todo) - number)
                    self._console.print(
                        f"[bold]{number} of {len(todo)} rows done[/], about {clock(left)} left"
                    )
            self._judge_pairs(known)

    def _make_proxy(self) -> dict[str, str]:
        """The preferences and the reward model, made once; what the words in braces stand for."""
        study = self._study
        self._console.print("\n[bold]preferences[/]")
        plan = build_run_plan(study.preferences())
        self._run(plan, (*SHARED, *SELECTING))
        # Always: written from the same pairs the file is the same, and from others it must not be the old one.
        total, _ = write_trl(plan.artifacts, study.preferences_file)
        self._console.print(f"{total:,} pairs -> {verbatim(study.preferences_file)}")
        self._console.print("\n[bold]proxy[/]")
        reward = build_reward_plan(study.proxy())
        self._run(reward)
        self._console.print(write_reward_report(reward)[1])
        return known_words(study, reward.artifacts["train"].folder / "model")

    def _shared(self, known: dict[str, str]) -> JobConfig:
        self._console.print("\n[bold]samples and scores that all rows share[/]")
        return filled(self._study.base(), known)

    def _stock(self) -> None:
        """Everything that is finished goes on the shelf, so that no stage is computed twice."""
        root = self._study.config.root
        for run in (root / "shared", *sorted(root.glob("rows/*/seed-*"))):
            if run.is_dir():
                self._shelf.add(run)

    def _row(self, name: str, seed: int, known: dict[str, str]) -> bool:
        """Train and measure one row; false if that was done already."""
        study = self._study
        path = result_path(study.config.root, name, seed)
        if path.exists():
            check_result(study, name, seed, known)
            return False
        plan = build_run_plan(filled(study.row(name, seed), known))
        model = plan.artifacts["train"].folder / "model"
        measured = study.evaluation(name, seed, str(model), known)
        identity = _identity(study, plan, name, seed, known)
        self._console.print(f"\n[bold]{study.config.all_rows[name].title}[/], seed {seed}")
        times = path.with_suffix(".seconds")
        with stopwatch(times) as spent:
            self._run(plan)
            evaluation = build_evaluation_plan(measured)
            self._run(evaluation)
        result = result_of(name, seed, plan, evaluation, seconds=spent())
        write_json(path, {"identity": identity, **result.to_json()})
        times.unlink(missing_ok=True)  # the result tells it
        self._tidy(plan)
        return True

    def _judge_pairs(self, known: dict[str, str]) -> None:
        """Look at every row's pairs with the gold reward, to tell what it learned from."""
        config, found = self._study.config, {}
        scored: dict[str, Plan] = {}  # by what the candidates are made from
        self._console.print("\n[bold]gold rewards of the candidates[/]")
        for name in config.all_rows:
            runs = [build_run_plan(filled(self._study.row(name, seed), known)) for seed in config.seeds]
            # Given responses have no score stage to repeat; further draws are not among the gold run's candidates.
            if not {"score", "pair"} <= set(runs[0].stages) or num_resamples(runs[0].config):
                continue
            made_from = json.dumps(runs[0].identities["sample"], sort_keys=True)
            if made_from not in scored:
                gold = build_run_plan(filled(self._study.gold(name), known))
                self._run(gold, SHARED)
                scored[made_from] = gold
            gold = scored[made_from]
            if not all(same_making(run.artifacts["sample"], gold.artifacts["sample"]) for run in runs):
                self._console.print(
                    f"[yellow]{name}: its candidates are not those of {verbatim(gold.config.root)}, which was made "
                    "before or after them.[/] Remove that folder to have this row's pairs judged."
                )
                continue
            quality = judge_pairs([run.artifacts["pair"] for run in runs], gold.artifacts["score"])
            if quality is not None:
                found[name] = asdict(quality)
        write_json(pairs_path(config.root), found)

    def _run(self, plan: Plan, only: tuple[str, ...] | None = None) -> None:
        self._shelf.fill(plan)
        Pipeline(plan, make_runner(plan.config), self._console).run(only=only)
        self._shelf.add(plan.config.root)

    def _tidy(self, plan: Plan) -> None:
        """A study trains many models and needs each only until it is measured."""
        if not self._study.config.keep_models:
            folder = plan.artifacts["train"].folder
            shutil.rmtree(folder / "model", ignore_errors=True)
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _identity(study: Study, plan: Plan, name: str, seed: int, known: dict[str, str]) -> dict[str, Any]:
    return {"train": plan.identities["train"], "evaluation": study.measuring(name, seed, known)}


def check_result(study: Study, name: str, seed: int, known: dict[str, str]) -> None:
    """Refuse the stored measurement of a row and seed that another configuration made.

    Args:
        study: the study as it is now.
        name, seed: the row's.
        known: what the words in braces stand for.

    Raises:
        ArtifactError: names every field that differs.
    """
    plan = build_run_plan(filled(study.row(name, seed), known))
    _check(result_path(study.config.root, name, seed), _identity(study, plan, name, seed, known))


def check_results(study: Study) -> None:
    """Refuse stored measurements that another configuration made, as far as that can be told.

    It cannot where the study's files or models are not on this machine, or its proxy is not made.

    Raises:
        ArtifactError: see `check_result`.
    """
    proxy = build_reward_plan(study.proxy()).artifacts["train"]
    if not (proxy.committed and study.preferences_file.exists()):
        return
    known = known_words(study, proxy.folder / "model")
    for name in study.config.all_rows:
        for seed in study.config.seeds:
            if result_path(study.config.root, name, seed).exists():
                with contextlib.suppress(ModelError, DataError):
                    check_result(study, name, seed, known)


def _check(path: Path, identity: dict[str, Any]) -> None:
    stored = read_json(path)["identity"]
    if stored != identity:
        changes = "\n".join(f"  {line}" for line in differences(stored, identity))
        raise ArtifactError(
            f"{path} was measured with another configuration:\n{changes}\n"
            f"Give the study a new name (--set name=...), or delete {path} and {path.with_suffix('')}* to redo the row."
        )


def stored_results(study: Study) -> Iterator[RowResult]:
    """The results that are there, row by row."""
    for name in study.config.all_rows:
        for seed in study.config.seeds:
            path = result_path(study.config.root, name, seed)
            if path.exists():
                yield RowResult.from_json(read_json(path))
