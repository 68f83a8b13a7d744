"""MLflow: one MLflow run for each run, which a resumed run goes on with."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import field_validator

from rayflow.core.options import KindOptions
from rayflow.core.private import hide, is_secret_parameter
from rayflow.errors import ConfigError, MissingPackageError
from rayflow.tracking.base import TrackedRun

_MAX_PARAMS = 100
_MAX_LENGTH = 500
"""Limits of MLflow: parameters in one request, and characters of a value that every version takes."""


class Mlflow:
    """Metrics by step, the configuration as parameters, report and configuration as files."""

    class Config(KindOptions):
        """Settings of `mlflow`.

        Attributes:
            uri: the tracking server or store; None is MLFLOW_TRACKING_URI, or MLflow's own default. No password in it:
                it is stored with the run. MLflow reads MLFLOW_TRACKING_TOKEN and its like from the environment.
            experiment: under which the run is filed.
        """

        kind: str = "mlflow"
        uri: str | None = None
        experiment: str = "rayflow"

        @field_validator("uri")
        @classmethod
        def _has_no_password(cls, uri: str | None) -> str | None:
            parts = urlsplit(uri or "")
            named = [name for name, _ in parse_qsl(parts.query) if is_secret_parameter(name)]
            if parts.username or parts.password or named:
                raise ValueError(
                    "must not hold a user, a password or a token; MLflow reads MLFLOW_TRACKING_USERNAME, "
                    "MLFLOW_TRACKING_PASSWORD and MLFLOW_TRACKING_TOKEN"
                )
            return uri

    def __init__(self, options: Config) -> None:
        self.options = options
        self._client: Any = None
        self._run = ""

    def check(self) -> None:
        """Look for the package and what it needs for the store; a server is first asked when there is something to say.

        Raises:
            MissingPackageError: MLflow is not installed.
            ConfigError: it cannot use the store, such as its default, a database, without the packages for one.
        """
        try:
            import mlflow
        except ImportError:
            raise MissingPackageError.of("mlflow-skinny", "track: mlflow", "track") from None
        try:
            mlflow.MlflowClient(self.options.uri)
        except (mlflow.MlflowException, ImportError) as error:
            told = str(error).strip().partition("\n")[0].partition(". ")[0]
            raise ConfigError(
                "track: mlflow cannot be used: name a server with track.uri or MLFLOW_TRACKING_URI, or install all of "
                f"MLflow for a store on this machine (pip install mlflow). MLflow says: {hide(told)}"
            ) from error

    def start(self, run: TrackedRun, known: str | None) -> str:
        """Create the MLflow run, or go on with one."""
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(self.options.uri)
        if known is not None:
            self._run = known
            return known
        name = self.options.experiment
        experiment = self._client.get_experiment_by_name(name)
        identity = experiment.experiment_id if experiment else self._client.create_experiment(name)
        self._run = self._client.create_run(identity, run_name=run.name).info.run_id
        params = [Param(key, value[:_MAX_LENGTH]) for key, value in run.settings.items()]
        for begin in range(0, len(params), _MAX_PARAMS):
            self._client.log_batch(self._run, params=params[begin : begin + _MAX_PARAMS])
        return self._run

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """All metrics of the step in one request."""
        self._send(metrics, step)

    def finish(self, summary: Mapping[str, float], files: Sequence[Path]) -> None:
        """The summary's numbers and the files; the MLflow run is then finished."""
        self._send({f"summary.{key}": value for key, value in summary.items()}, step=0)
        for file in files:
            self._client.log_artifact(self._run, str(file))
        self._client.set_terminated(self._run)

    def _send(self, metrics: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(
            self._run, metrics=[Metric(key, value, now, step) for key, value in metrics.items()]
        )
