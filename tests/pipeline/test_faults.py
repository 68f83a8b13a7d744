"""What goes wrong around a run: damage, full disks, other versions, and reward servers that fail it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from rayflow.cli.app import app
from rayflow.config import RunConfig
from rayflow.core.files import read_json, write_json
from rayflow.errors import ArtifactError, StageError
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.verify import repair, verify
from tests.pipeline.conftest import NUM_PROMPTS
from tests.pipeline.helpers import DATA_STAGES, data_plan, run_data, tables
from tests.rewards.test_http import Answer, lengths, ok, serve  # noqa: F401

ROOT = Path(__file__).parents[2]


def flip(path: Path, where: float) -> None:
    """Turn a bit of a file at a share of its length."""
    content = bytearray(path.read_bytes())
    content[int(where * (len(content) - 1))] ^= 0x10
    path.write_bytes(content)


def shard(artifact: Artifact, index: int) -> Path:
    return artifact.shards.folder / artifact.shards.marker(index).file


@pytest.fixture
def finished(config: RunConfig) -> tuple[Plan, dict]:
    """A run up to the pairs, and its tables."""
    plan, _ = run_data(config)
    return plan, tables(plan)


@pytest.mark.parametrize("where", [0.0, 0.03, 0.5, 0.9, 0.99, 1.0])
def test_a_flipped_bit_anywhere_in_a_shard_is_noticed(finished: tuple[Plan, dict], where: float) -> None:
    artifact = finished[0].artifacts["sample"]
    flip(shard(artifact, 1), where)
    with pytest.raises(
        ArtifactError, match="SHA-256 is not the committed one[\\s\\S]*rayflow verify .*--repair"
    ):
        artifact.shards.read(1, {"prompt_id"})


@pytest.mark.parametrize("stage", ["prompts", "sample", "score", "pair"])
def test_verify_finds_damage_and_repair_computes_only_that_anew(
    finished: tuple[Plan, dict], stage: str
) -> None:
    plan, before = finished
    root, artifact = str(plan.config.root), plan.artifacts[stage]
    kept = {name: plan.artifacts[name].shards.marker(0) for name in DATA_STAGES}
    runner = CliRunner()
    assert runner.invoke(app, ["verify", root]).exit_code == 0
    path = shard(artifact, 1)
    path.write_bytes(path.read_bytes()[:-9])
    found = runner.invoke(app, ["verify", root])
    assert found.exit_code == 1 and path.name in found.output and "bytes, where" in found.output
    mended = runner.invoke(app, ["verify", root, "--repair"])
    assert mended.exit_code == 0 and f"taken back: {stage}, 1 shard\n" in mended.output
    again, _ = run_data(plan.config)
    assert tables(again) == before
    assert {name: again.artifacts[name].shards.marker(0) for name in DATA_STAGES} == kept
    followers = {"prompts": (), "sample": ("score", "select", "pair"), "score": ("select", "pair")}
    for name in followers.get(stage, ()):
        assert f"taken back: {name}, 1 shard\n" in mended.output
    assert runner.invoke(app, ["verify", root]).exit_code == 0


@pytest.mark.parametrize("file", ["manifest.json", "stage.json"])
@pytest.mark.parametrize("stage", ["prompts", "sample", "select"])
def test_half_of_what_says_what_a_stage_is_costs_none_of_its_rows(
    finished: tuple[Plan, dict], stage: str, file: str
) -> None:
    plan, before = finished
    root, path = str(plan.config.root), plan.artifacts[stage].folder / file
    stored = read_json(path)
    kept = {name: plan.artifacts[name].shards.marker(0) for name in DATA_STAGES}
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ArtifactError, match=rf"{file} cannot be read[\s\S]*`rayflow verify {root} --repair`"):
        run_data(plan.config)
    runner = CliRunner()
    found = runner.invoke(app, ["verify", root])
    assert found.exit_code == 1 and f"{file} cannot be read" in found.output
    assert "1 damaged or missing" in found.output
    mended = runner.invoke(app, ["verify", root, "--repair"])
    assert mended.exit_code == 0 and mended.output.count("taken back") == 1, mended.output
    again, _ = run_data(plan.config)
    assert tables(again) == before
    assert {name: again.artifacts[name].shards.marker(0) for name in DATA_STAGES} == kept
    times = {"started", "seconds"}  # of a stage that was committed again
    assert {k: v for k, v in read_json(path).items() if k not in times} == {
        k: v for k, v in stored.items() if k not in times
    }
    assert runner.invoke(app, ["verify", root]).exit_code == 0


def test_a_stage_that_nothing_tells_of_any_more_is_made_anew(finished: tuple[Plan, dict]) -> None:
    plan, before = finished
    for file in ("manifest.json", "stage.json"):
        (plan.artifacts["score"].folder / file).write_bytes(b"")
    mended = CliRunner().invoke(app, ["verify", str(plan.config.root), "--repair"])
    assert mended.exit_code == 0, mended.output
    for stage in ("score", "select", "pair"):
        assert f"taken back: {stage}, all of it" in mended.output
        assert not plan.artifacts[stage].folder.exists()
    assert tables(run_data(plan.config)[0]) == before


def test_a_kill_during_repair_leaves_the_damage_to_be_found_again(
    finished: tuple[Plan, dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, before = finished
    flip(shard(plan.artifacts["sample"], 1), 0.5)
    forget = Artifact.forget

    def killed(artifact: Artifact, indices: frozenset[int]) -> None:
        forget(artifact, indices)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Artifact, "forget", killed)
        with pytest.raises(KeyboardInterrupt):
            repair(plan, verify(plan))
    assert [finding.stage for finding in verify(plan) if not finding.whole] == ["sample"]
    assert list(repair(plan, verify(plan))) == ["sample", "score", "select", "pair"]
    assert tables(run_data(plan.config)[0]) == before


def test_a_damaged_shard_stops_a_run_and_loses_nothing(config: RunConfig) -> None:
    plan, _ = run_data(config)
    before = tables(plan)
    plan.artifacts["score"].set_aside()
    for name in ("select", "pair"):
        plan.artifacts[name].set_aside()
    flip(shard(plan.artifacts["sample"], 2), 0.5)
    with pytest.raises(ArtifactError, match="missing or damaged"):
        run_data(config)
    assert CliRunner().invoke(app, ["verify", str(config.root), "--repair"]).exit_code == 0
    again, _ = run_data(config)
    assert tables(again) == before


@pytest.mark.parametrize("file", ["manifest.json", "stage.json"])
@pytest.mark.parametrize("found", [1, 99])
def test_another_versions_format_is_refused_and_left_alone(
    finished: tuple[Plan, dict], file: str, found: int
) -> None:
    path = finished[0].artifacts["sample"].folder / file
    write_json(path, {**read_json(path), "format": found})
    before = path.read_bytes()
    with pytest.raises(
        ArtifactError, match=f"{file} has format {found}, this version reads 2. Use the version"
    ):
        run_data(finished[0].config)
    assert path.read_bytes() == before


def test_fields_of_another_version_are_an_error_that_names_the_file(finished: tuple[Plan, dict]) -> None:
    artifact = finished[0].artifacts["sample"]
    path = artifact.folder / "manifest.json"
    good = read_json(path)
    write_json(path, {**good, "colour": "red"})
    with pytest.raises(ArtifactError, match=r"manifest.json is damaged, or another version's .*colour"):
        artifact.manifest()
    write_json(path, {key: value for key, value in good.items() if key != "num_rows"})
    with pytest.raises(ArtifactError, match="num_rows"):
        artifact.manifest()
    marker = artifact.shards.folder / "00000.json"
    write_json(marker, {**read_json(marker), "colour": "red"})
    with pytest.raises(ArtifactError, match=r"00000.json is damaged, or another version's"):
        artifact.shards.read(0)


def test_a_run_of_before_the_checksums_is_still_read(finished: tuple[Plan, dict]) -> None:
    plan, before = finished
    for artifact in plan.artifacts.values():
        for path in artifact.shards.folder.glob("*.json"):
            old = read_json(path)
            write_json(path, {key: value for key, value in old.items() if key not in ("size", "sha256")})
        stage = read_json(artifact.folder / "stage.json")
        write_json(artifact.folder / "stage.json", {k: v for k, v in stage.items() if k != "format"})
    again, text = run_data(plan.config)
    assert text.count("stored") == len(DATA_STAGES) and tables(again) == before


def test_a_worker_of_a_killed_run_commits_nothing_to_a_stage_begun_anew(config: RunConfig) -> None:
    """Its actors may live on for seconds after kill -9, and --force-stage may be quicker."""
    import asyncio

    plan, _ = run_data(config)
    orphan = plan.worker(plan.stages["select"])
    artifact = plan.artifacts["select"]
    artifact.set_aside()
    artifact.begin({**plan.identities["select"], "seed": 77}, plan.artifacts["prompts"].num_shards)
    with pytest.raises(ArtifactError, match="seed: stored 77, now 3"):
        asyncio.run(orphan.run(0))
    assert not artifact.shards.committed() and not list(artifact.shards.folder.iterdir())


def test_prompts_that_were_begun_with_another_shard_size_keep_it(
    config: RunConfig, finished: tuple[Plan, dict]
) -> None:
    plan, before = finished
    for index in (0, 1):
        plan.artifacts["prompts"].forget([index])  # as if killed while the prompts were written
    compute = config.compute.model_copy(update={"shard_size": 3})
    again, _ = run_data(config.model_copy(update={"compute": compute}))
    assert tables(again) == before
    assert len(before["prompts"]) == NUM_PROMPTS


def test_a_full_disk_is_a_sentence_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa

    artifact = Artifact(tmp_path / "02-sample")
    artifact.begin({}, num_shards=1)
    with monkeypatch.context() as patch:
        patch.setattr("rayflow.pipeline.shards.secrets.token_hex", lambda n: "x")
        (artifact.shards.folder / "00000-x.parquet").symlink_to("/dev/full")
        with pytest.raises(ArtifactError, match=r"There is no room to write .*00000-x.parquet .*Make room"):
            artifact.shards.write(0, pa.table({"prompt_id": ["a"]}))
    assert not list(artifact.shards.folder.iterdir())
    artifact.shards.write(0, pa.table({"prompt_id": ["a"]}))
    assert artifact.pending_shards() == []


FULL_THEN_NOT = """
mount -t tmpfs -o size=96k tmpfs "$1" || exit 77
"$2" -m tests.chaos.job "$3"; echo "first: $?"
mount -o remount,size=64m "$1"
"$2" -m tests.chaos.job "$3"; echo "second: $?"
cp -r "$1"/. "$4"
"""


def test_a_run_on_a_disk_that_fills_up_goes_on_when_there_is_room(
    settings: dict, tmp_path: Path, finished: tuple[Plan, dict]
) -> None:
    """A real small disk, which only this process sees."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here")
    disk, kept, file = tmp_path / "disk", tmp_path / "kept", tmp_path / "small.yaml"
    disk.mkdir()
    kept.mkdir()
    file.write_text(yaml.safe_dump({**settings, "runs_dir": str(disk)}))
    done = subprocess.run(
        [
            "unshare",
            "-Urm",
            "bash",
            "-c",
            FULL_THEN_NOT,
            "-",
            str(disk),
            sys.executable,
            str(file),
            str(kept),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no file system may be mounted here")
    said = done.stdout + done.stderr
    assert "first: 1" in said and "There is no room to write" in said, said
    assert "second: 0" in said, said
    config = RunConfig.model_validate({**settings, "runs_dir": str(kept)})
    assert tables(data_plan(config)) == finished[1]


def with_server(settings: dict, url: str, **more: object) -> RunConfig:
    reward = {"kind": "http", "url": url, "backoff_s": 0.01, "max_retries": 1, "timeout_s": 0.5}
    return RunConfig.model_validate({**settings, "reward": reward, **more})


def test_a_reward_server_that_goes_down_stops_the_run_which_goes_on_when_it_is_back(
    settings: dict,
    serve,  # noqa: ANN001, F811
) -> None:
    whole, _ = run_data(with_server(settings, serve(lengths).url, name="whole"))
    down = {"after": 5}

    def fails_later(items: list[dict], number: int) -> Answer:
        return lengths(items, number) if number < down["after"] else (503, b"going down", {})

    config = with_server(settings, serve(fails_later).url)
    with pytest.raises(StageError, match=r"did not answer in 2 attempts: 503[\s\S]*run again to go on"):
        run_data(config)
    stored = data_plan(config).artifacts["score"].shards.committed()
    assert stored and len(stored) < 3
    down["after"] = 1000
    plan, _ = run_data(config)
    assert tables(plan)["score"] == tables(whole)["score"] and tables(plan)["pair"] == tables(whole)["pair"]


def test_a_slow_reward_server_changes_nothing(settings: dict, serve) -> None:  # noqa: ANN001, F811
    def slow_now_and_then(items: list[dict], number: int) -> Answer:
        time.sleep(1.0 if number == 3 else 0)
        return lengths(items, number)

    whole, _ = run_data(with_server(settings, serve(lengths).url, name="whole"))
    plan, _ = run_data(with_server(settings, serve(slow_now_and_then).url))
    assert tables(plan)["pair"] == tables(whole)["pair"]


@pytest.mark.parametrize(
    "content", [b"<html>proxy</html>", b'{"rewards": [NaN]}', json.dumps({"rewards": []}).encode()]
)
def test_garbage_of_a_reward_server_is_a_counted_failure(
    settings: dict,
    serve,  # noqa: ANN001, F811
    content: bytes,
) -> None:
    def garbage_for_one(items: list[dict], number: int) -> Answer:
        if "number 3" in items[0]["prompt"]:
            return 200, content, {}
        return ok([len(item["response"]) for item in items])

    plan, text = run_data(with_server(settings, serve(garbage_for_one).url, max_failed_fraction=0.2))
    assert len(tables(plan)["score"]) == len(tables(plan)["pair"]) == NUM_PROMPTS - 1
    assert [f.reason for f in plan.artifacts["score"].shards.failures()] == ["reward failed"]
    assert "1 failed" in text
