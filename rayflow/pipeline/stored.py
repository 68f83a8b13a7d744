"""The plan of a job that is stored, from the configuration in its folder."""

from __future__ import annotations

from pathlib import Path

from rayflow.config import RunConfig
from rayflow.config.evaluate import EvaluateConfig
from rayflow.config.reward import RewardConfig
from rayflow.errors import ArtifactError
from rayflow.pipeline.evaluation_plan import build_evaluation_plan
from rayflow.pipeline.folders import job_of, stored_config
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.reward_plan import build_reward_plan
from rayflow.pipeline.run_plan import build_run_plan

_JOBS = {
    RunConfig: ("a run", build_run_plan),
    RewardConfig: ("the training of a reward model", build_reward_plan),
    EvaluateConfig: ("an evaluation", build_evaluation_plan),
}


def open_any(folder: Path) -> Plan:
    """The plan of whatever job a folder holds, from the configuration in it.

    Raises:
        ArtifactError: not a job's folder.
    """
    schema = job_of(folder)
    return _JOBS[schema][1](stored_config(folder, schema))


def open_plan(folder: Path) -> Plan:
    """The plan of a stored run.

    Raises:
        ArtifactError: not a run's folder.
    """
    schema = job_of(folder)
    if schema is not RunConfig:
        others = "report, verify and lineage" + (", human export" if schema is EvaluateConfig else "")
        raise ArtifactError(
            f"{folder} holds {_JOBS[schema][0]}, and this command reads runs only. Those that read it: {others}."
        )
    return build_run_plan(stored_config(folder, RunConfig))
