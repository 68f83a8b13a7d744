"""People compare responses: what is written for them, and what is made of their answers.

DIR/raters/rating.html   the page to send to raters; says nothing of systems, runs or seeds
DIR/raters/tasks.csv     the same tasks for a crowd platform
DIR/key.json             which response is whose; stays here
DIR/report.html, summary.json   once answers are imported
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayflow.core.evaluation_rows import Answers
from rayflow.core.files import write_json
from rayflow.core.seeds import derive, rng
from rayflow.errors import ArtifactError, ConfigError, DataError
from rayflow.pipeline.folders import last_round
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.stages.evaluate import paired
from rayflow.pipeline.stored import open_any
from rayflow.report.data import draw
from rayflow.report.human import LETTERS, Task, rating_page
from rayflow.report.render import replace_file

KEY, RATERS = "key.json", "raters"
FORMAT = 1


@dataclass(frozen=True)
class System:
    """Whose responses they are: a name, and the first response to each prompt by its id."""

    name: str
    responses: dict[str, str]


def export_human(folders: Sequence[Path], num: int, output: Path, instructions: str, seed: int) -> int:
    """Write the rating page, the table and the key.

    Args:
        folders: runs or evaluations; the baseline of the first one and the policy of each are the systems.
        num: tasks at most, drawn at random from the prompts that all systems answered.
        output: an empty folder, or one that does not exist.
        instructions: what raters read first.
        seed: of the draw and of each task's order.

    Returns:
        How many tasks there are.

    Raises:
        ArtifactError: a folder has no answers of two sides yet, or the output folder holds something.
        ConfigError: more systems than letters, or two of one name.
        DataError: no prompt that all answered.
    """
    if output.exists() and any(output.iterdir()):
        raise ArtifactError(f"{output} is not empty. Its key belongs to answers; name another folder.")
    prompts, systems = _systems(folders)
    common = [name for name in prompts if all(name in system.responses for system in systems)]
    if not common:
        raise DataError("The runs have no prompt in common. Evaluate them on the same prompts first.")
    chosen = [common[i] for i in draw(len(common), count=num, seed=derive(seed, "human") % 2**32)]
    rng(seed, "human", "tasks").shuffle(chosen)  # the run's own order may tell what is what
    tasks, key = [], {}
    for number, name in enumerate(chosen, start=1):
        order = rng(seed, "human", name).permutation(len(systems)).tolist()
        task = Task(f"t{number:03d}", prompts[name], tuple(systems[i].responses[name] for i in order))
        tasks.append(task)
        key[task.name] = {"prompt_id": name, "order": order}
    export = _digest(tasks)
    (output / RATERS).mkdir(parents=True)
    replace_file(output / RATERS / "rating.html", rating_page(tasks, export, instructions))
    replace_file(output / RATERS / "tasks.csv", _table(tasks))
    write_json(
        output / KEY,
        {
            "format": FORMAT,
            "export": export,
            "created": time.time(),
            "seed": seed,
            "systems": [system.name for system in systems],
            "runs": [str(folder.absolute()) for folder in folders],
            "tasks": key,
        },
    )
    return len(tasks)


def _systems(folders: Sequence[Path]) -> tuple[dict[str, str], list[System]]:
    """Every prompt's text by its id, and the systems, a baseline first."""
    prompts: dict[str, str] = {}
    systems: list[System] = []
    for folder in folders:
        plan = open_any(last_round(folder))
        pairs = _answers(plan)
        if not systems:
            systems.append(System("baseline", {b.prompt_id: b.responses[0] for _, b in pairs}))
        name = folder.absolute().name
        systems.append(System(name, {p.prompt_id: p.responses[0] for p, _ in pairs}))
        prompts |= {p.prompt_id: _asked(p) for p, _ in pairs}
    names = [system.name for system in systems]
    if len(set(names)) < len(names):
        raise ConfigError(f"Two systems have the same name: {', '.join(names)}. Rename a run's folder.")
    if len(systems) > len(LETTERS):
        raise ConfigError(
            f"A task shows at most {len(LETTERS)} responses, and there are {len(systems)} systems."
        )
    return prompts, systems


def _answers(plan: Plan) -> list[tuple[Answers, Answers]]:
    """(policy, baseline) of all prompts that both sides answered.

    Raises:
        ArtifactError: the folder's job compares nothing, or has not come that far.
    """
    sides = [
        next((name for name in names if name in plan.stages), None)
        for names in (
            ("prompts",) if "measure" in plan.stages else ("eval-prompts",),
            ("policy-sample", "policy-encode", "eval-sample-policy"),
            ("baseline-sample", "baseline-encode", "eval-sample-sft", "eval-encode-target"),
        )
    ]
    if None in sides or "train" in sides:
        raise ArtifactError(
            f"{plan.config.root} compares no two sides: it has no evaluation prompts, or trains a reward model."
        )
    prompts, policy, baseline = (plan.artifacts[name] for name in sides if name)
    for artifact in (policy, baseline):
        artifact.manifest()  # says what to do if it is not finished
    shards = range(policy.num_shards)
    return [pair for i in shards for pair in paired([prompts, policy], [prompts, baseline], i, Answers)]


def _asked(row: Answers) -> str:
    return row.messages[0]["content"] if len(row.messages) == 1 else row.text


def _digest(tasks: Sequence[Task]) -> str:
    """Names these tasks in this order: 16 hexadecimal digits that tell nothing else."""
    content: Any = [[task.name, task.prompt, task.responses] for task in tasks]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _table(tasks: Sequence[Task]) -> str:
    """One line per task, in the form that crowd platforms take: `task_id, prompt, response_a, response_b, ..`.

    The texts are exact; one that begins with "=" is a formula to a spreadsheet, so import it as text there.
    """
    sink = io.StringIO()
    writer = csv.writer(sink)
    letters = [letter.lower() for letter, _ in tasks[0].shown]
    writer.writerow(["task_id", "prompt", *(f"response_{letter}" for letter in letters)])
    for task in tasks:
        writer.writerow([task.name, task.prompt, *task.responses])
    return sink.getvalue()
