"""Trackers, read back with their own tools: every step once, also after a resume, and never a lost run."""

from __future__ import annotations

import io
import json
import struct
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from rich.console import Console

from rayflow.config import RunConfig
from rayflow.core.files import read_json
from rayflow.core.options import KindOptions
from rayflow.core.registry import FAMILIES
from rayflow.errors import ConfigError, MissingPackageError
from rayflow.pipeline.folders import run_name
from rayflow.pipeline.preflight import preflight
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.pipeline.tracking import FILE, Tracking
from rayflow.tracking.base import TrackedRun
from rayflow.tracking.mlflow import Mlflow
from rayflow.tracking.tensorboard import TensorBoard
from tests.test_whole import finished_run, prompt_file, small_settings  # noqa: F401


@pytest.fixture
def settings(tmp_path: Path, prompt_file: Path, tiny_model: str) -> dict:  # noqa: F811
    return small_settings(tmp_path, prompt_file, tiny_model)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The scalars of TensorBoard's event files: length, checksum, a protocol buffer, checksum, and so on."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.*")):
        data = io.BytesIO(path.read_bytes())
        while head := data.read(12):
            event = Event.FromString(data.read(struct.unpack("<Q", head[:8])[0]))
            data.read(4)
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_tensorboard_gets_every_step_and_the_summary(settings: dict) -> None:
    config = RunConfig.model_validate({**settings, "track": "tensorboard"})
    plan = finished_run(config)
    seen = scalars(config.root / "tensorboard")
    stored = [
        json.loads(line)
        for line in (plan.artifacts["train"].folder / "metrics.jsonl").read_text().splitlines()
    ]
    assert [step for step, _ in seen["train/loss"]] == [row["step"] for row in stored] == [1, 2, 3]
    assert [value for _, value in seen["train/loss"]] == pytest.approx([row["loss"] for row in stored])
    rate = read_json(config.root / "summary.json")["evaluation"]["win_rate"]
    assert seen["summary/evaluation.win_rate"] == [(3, pytest.approx(rate))]
    finished_run(config)  # nothing to do, and nothing is told twice
    assert scalars(config.root / "tensorboard") == seen


def test_rounds_and_rows_of_studies_are_not_drawn_as_one(tmp_path: Path) -> None:
    options = TensorBoard.Config(folder=str(tmp_path / "boards"))
    roots = [Path("runs/mine/round-1"), Path("runs/mine/round-2"), Path("runs/other/round-1")]
    roots += [Path(f"runs/study/rows/{row}/seed-1") for row in ("rso", "dpo")]
    places = {TensorBoard(options).start(TrackedRun(run_name(each), each, {}), None) for each in roots}
    names = (
        "mine/round-1",
        "mine/round-2",
        "other/round-1",
        "study/rows/rso/seed-1",
        "study/rows/dpo/seed-1",
    )
    assert places == {str(tmp_path / "boards" / name) for name in names}


@pytest.mark.parametrize("folder", ["boards", None])
def test_a_training_that_begins_anew_has_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    run = TrackedRun("small", tmp_path / "runs" / "small", {})
    places = []
    for loss in (1.0, 2.0):
        board = TensorBoard(TensorBoard.Config(folder=folder))
        places.append(board.start(run, None))
        board.log(1, {"loss": loss})
        board.finish({}, [])
    assert [scalars(Path(place))["train/loss"] for place in places] == [[(1, 1.0)], [(1, 2.0)]]
    for place in places:
        assert TensorBoard(TensorBoard.Config(folder=folder)).start(run, place) == place
    if folder is None:
        moved = (tmp_path / "runs" / "small").rename(tmp_path / "moved")
        again = TensorBoard(TensorBoard.Config()).start(TrackedRun("moved", moved, {}), places[1])
        assert again == str(moved / "tensorboard-2")


def test_where_a_run_is_tracked_is_no_part_of_what_it_is(settings: dict) -> None:
    plain = build_run_plan(RunConfig.model_validate(settings))
    tracked = build_run_plan(RunConfig.model_validate({**settings, "track": "tensorboard"}))
    assert plain.identities == tracked.identities


def test_mlflow_gets_parameters_steps_summary_and_files(
    settings: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder: MLflow wants a database or a server by now, and this needs neither."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    config = RunConfig.model_validate(
        {**settings, "track": {"kind": "mlflow", "uri": uri, "experiment": "exp"}}
    )
    finished_run(config)
    client = mlflow.MlflowClient(uri)
    (experiment,) = [each for each in client.search_experiments() if each.name == "exp"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "small" and run.info.status == "FINISHED"
    rate = read_json(config.root / "summary.json")["evaluation"]["win_rate"]
    assert run.data.params["select.beta"] == "0.2" and run.data.metrics["summary.evaluation.win_rate"] == rate
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in history] == [1, 2, 3]
    files = {each.path for each in client.list_artifacts(run.info.run_id)}
    assert files == {"config.yaml", "summary.json", "report.html"}


class Memory:
    """A tracker that remembers across instances; a plug-in, as a user would write one."""

    told: list[tuple] = []
    broken = ""

    class Config(KindOptions):
        kind: str = "tests.tracking.test_trackers:Memory"

    def __init__(self, options: Config) -> None:
        self.options = options

    def check(self) -> None:
        pass

    def start(self, run, known) -> str:  # noqa: ANN001
        self.told.append(("start", run.name, known))
        return "the-run"

    def log(self, step, metrics) -> None:  # noqa: ANN001
        if self.broken:
            raise OSError(self.broken)
        self.told.append(("log", step, dict(metrics)))

    def finish(self, summary, files) -> None:  # noqa: ANN001
        self.told.append(("finish", dict(summary), [Path(each).name for each in files]))


@pytest.fixture
def memory(settings: dict, monkeypatch: pytest.MonkeyPatch):  # noqa: ANN201
    monkeypatch.setattr(Memory, "told", [])
    config = RunConfig.model_validate({**settings, "track": "tests.tracking.test_trackers:Memory"})
    plan = build_run_plan(config)
    plan.artifacts["train"].folder.mkdir(parents=True)
    return plan


def test_a_resumed_run_goes_on_in_the_tracker_with_the_steps_it_lacks(memory) -> None:  # noqa: ANN001
    first = Tracking(memory, Console(quiet=True))
    for step in (1, 2):
        first.step({"step": step, "loss": 1.0 / step, "odd": float("nan")})
    again = Tracking(memory, Console(quiet=True))
    for step in (1, 2, 3):  # Ray Train's history is told from its first step
        again.step({"step": step, "loss": 1.0 / step})
    starts = [each for each in Memory.told if each[0] == "start"]
    assert starts == [("start", "small", None), ("start", "small", "the-run")]
    assert [each[1:] for each in Memory.told if each[0] == "log"] == [
        (1, {"loss": 1.0}),
        (2, {"loss": 0.5}),
        (3, {"loss": 1 / 3}),
    ]


def test_a_training_that_is_redone_begins_anew(memory) -> None:  # noqa: ANN001
    Tracking(memory, Console(quiet=True)).step({"step": 1, "loss": 1.0})
    memory.artifacts["train"].set_aside()
    memory.artifacts["train"].folder.mkdir()
    Tracking(memory, Console(quiet=True)).step({"step": 1, "loss": 1.0})
    assert [each[2] for each in Memory.told if each[0] == "start"] == [None, None]


def test_a_tracker_that_is_down_is_said_once_and_costs_no_run(
    memory,  # noqa: ANN001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its address, with a password from the environment, is not shown, and a path in brackets is no markup."""
    monkeypatch.setattr(Memory, "broken", "http://me:s3cret@host/api is down [/mnt/logs]")
    text = io.StringIO()
    tracking = Tracking(memory, Console(file=text, width=200))
    for step in (1, 2, 3):
        tracking.step({"step": step, "loss": 1.0})
    assert text.getvalue().count("Tracking stopped: OSError: http://***@host/api is down [/mnt/logs].") == 1
    assert not (memory.artifacts["train"].folder / FILE).exists()


@pytest.mark.parametrize(("kind", "package"), [("tensorboard", "tensorboardX"), ("mlflow", "mlflow")])
def test_a_missing_package_is_noticed_before_time_is_spent(
    kind: str, package: str, settings: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # what the import statement takes for absent
    config = RunConfig.model_validate({**settings, "track": kind})
    with pytest.raises(MissingPackageError, match=r"pip install 'rayflow\[track\]'"):
        preflight(build_run_plan(config))


def test_a_password_in_the_address_is_refused(settings: dict, tmp_path: Path) -> None:
    from rayflow.config import load_config

    path = tmp_path / "run.yaml"
    path.write_text(json.dumps({**settings, "track": {"kind": "mlflow", "uri": "https://me:secret@host"}}))
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        load_config(path)
    assert "secret" not in str(caught.value) and "//***@host" in str(caught.value)


@pytest.mark.parametrize("uri", ["https://dapi0123@host", "https://host/?token=abc"])
def test_nor_may_a_token_stand_there(settings: dict, uri: str) -> None:
    with pytest.raises(ValidationError, match="must not hold a user, a password or a token"):
        RunConfig.model_validate({**settings, "track": {"kind": "mlflow", "uri": uri}})


def test_the_trackers_are_those_of_the_table() -> None:
    assert set(FAMILIES["tracker"]) == {"none", "tensorboard", "mlflow"}


def test_a_store_that_mlflow_cannot_use_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.delenv(name, raising=False)
    Mlflow(Mlflow.Config(uri="http://127.0.0.1:1")).check()  # a server may be started later
    with pytest.raises(ConfigError, match="name a server with track.uri or MLFLOW_TRACKING_URI"):
        Mlflow(Mlflow.Config(uri=str(tmp_path / "mlruns"))).check()
