"""Every shipped configuration finds its place on 1, 8 and 64 GPUs, by the commands that a person would type."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from rayflow.cli.app import app
from rayflow.cli.cluster import _of_job
from rayflow.config import RunConfig, load_config, schema_of
from rayflow.config.evaluate import EvaluateConfig
from rayflow.config.refresh import RefreshConfig
from rayflow.config.reward import RewardConfig
from rayflow.config.study import StudyConfig
from rayflow.errors import ConfigError
from tests.rewards.conftest import pad_is_eos_model  # noqa: F401

ROOT = Path(__file__).parents[2]
COMMANDS = {
    RunConfig: "run",
    RefreshConfig: "refresh",
    EvaluateConfig: "evaluate",
    RewardConfig: "train-reward",
}
# A study is a list of rows; what runs on machines are its parts, which lie beside it.
CONFIGS = sorted(
    path for path in (ROOT / "jobs" / "configs").rglob("*.yaml") if schema_of(path) is not StudyConfig
)
MADE_BEFORE = {
    "evaluate/quickstart": ("policy={model}", "side_by_side.judge.model={model}"),
    "study/evaluation": ("policy={model}", "rewards.proxy.model={classifier}"),
    "study/proxy": ("data.train.path={preferences}",),
    "study/run": ("reward.model={classifier}",),
}
"""Models and data that another job makes first, and what takes their place here."""
SHARED = [("--gpus", 1), ("--gpus", 8), ("--gpus", 64)]
SPLIT = [
    ("--gpus-sampling", 4, "--gpus-reward", 2, "--gpus-train", 2),
    ("--gpus-sampling", 40, "--gpus-reward", 8, "--gpus-train", 16),
    ("--gpus-sampling", 48, "--gpus-train", 16),
]
SIZES = [*SHARED, *SPLIT]


def rayflow(*arguments: object) -> str:
    # Wide enough that no name is broken.
    result = CliRunner().invoke(
        app, [str(a) for a in arguments], catch_exceptions=False, env={"COLUMNS": "200"}
    )
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, tuple], Path]:
    """The folder that is rendered for a configuration at a size.

    Rendered once for all that ask for the same cluster: a job's path is named in the manifests alone, not in the
    compute block that places it.
    """
    made: dict[tuple, Path] = {}

    @functools.cache
    def told(config: Path) -> tuple:
        return tuple(sorted(item for item in _of_job(config).items() if not item[0].endswith("config")))

    def render(config: Path, size: tuple) -> Path:
        key = (size, told(config))
        if key not in made:
            folder = tmp_path_factory.mktemp("cluster")
            rayflow("cluster", "render", *size, "--config", config, "--output", folder)
            made[key] = folder
        return made[key]

    return render


def dry_run(config: Path, folder: Path, model: str, *settings: str) -> str:
    """Place a configuration on the cluster that a folder describes: what is printed."""
    # The first round of several, as `--dry-run` shows; runs_dir is the cluster's.
    return rayflow(
        *(
            COMMANDS[schema_of(config)],
            config,
            "--set",
            f"@{folder / 'compute.yaml'}",
            "--set",
            f"model={model}",
            *(part for setting in settings for part in ("--set", setting)),
            "--dry-run",
        )
    )


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_there_are_configurations() -> None:
    assert len(CONFIGS) > 25 and {schema_of(path) for path in CONFIGS} == set(COMMANDS)
    named = {f"{path.parent.name}/{path.stem}" for path in CONFIGS}
    assert named >= set(MADE_BEFORE)


@pytest.mark.parametrize("size", [*SHARED, SPLIT[1]], ids=lambda size: "-".join(map(str, size[1::2])))
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_the_configuration_finds_its_place(
    config: Path,
    size: tuple,
    tiny_model: str,
    made: dict[str, str],
    rendered: Callable[[Path, tuple], Path],
) -> None:
    settings = MADE_BEFORE.get(f"{config.parent.name}/{config.stem}", ())
    text = dry_run(config, rendered(config, size), tiny_model, *(each.format(**made) for each in settings))
    workers = size[-1] if "--gpus-train" in size else size[1]
    group = "trainer" if "--gpus-train" in size else "gpu"
    if schema_of(config) in (RunConfig, RewardConfig):
        (train,) = [line for line in text.splitlines() if "-train " in line]
        assert f"{workers} {group} " in train
    elif schema_of(config) is EvaluateConfig:
        passes = [line for line in text.splitlines() if "-kl-policy " in line or "-kl-sft " in line]
        assert len(passes) == 2 and all(f"{workers} {group} " in line for line in passes)
    if "--gpus" in size or schema_of(config) is RewardConfig:
        return
    samplers = [
        line for line in text.splitlines() if line.split(" ")[0].endswith(("-sample", "-side-by-side"))
    ]
    assert all(f"{size[1]} sampler " in line for line in samplers)
    assert samplers or load_config(config).source != "sampled"


@pytest.fixture
def made(tiny_model: str, pad_is_eos_model: str, tmp_path: Path) -> dict[str, str]:  # noqa: F811
    """What stands for the results of other jobs."""
    rows = [{"prompt": f"p{i}", "chosen": "a", "rejected": "b"} for i in range(64)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "model": tiny_model,
        "classifier": pad_is_eos_model,
        "preferences": str(tmp_path / "pairs.jsonl"),
    }


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "-".join(map(str, size[1::2])))
@pytest.mark.parametrize("kind", ["classifier", "ranker"])
def test_a_model_as_the_reward_finds_its_place(
    kind: str,
    size: tuple,
    tiny_model: str,
    rendered: Callable[[Path, tuple], Path],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """A ranker is held twice; on the reward's machines where there are some."""
    model = tiny_model if kind == "ranker" else request.getfixturevalue("pad_is_eos_model")
    config = tmp_path / "config.yaml"
    reward = {"kind": kind, "model": model}
    extends = str(ROOT / "jobs" / "configs" / "quickstart.yaml")
    config.write_text(yaml.safe_dump({"extends": extends, "reward": reward}))
    lines = dry_run(config, rendered(config, size), tiny_model).splitlines()
    (score,) = [line for line in lines if "-score " in line]
    (pair,) = [line for line in lines if "-pair " in line]
    group = "head" if "--gpus-train" in size and "--gpus-reward" not in size else None
    group = group or ("reward" if "--gpus-reward" in size else "gpu")
    assert f" {group} " in score
    assert f" {group if kind == 'ranker' else 'head'} " in pair  # labels, or a light task


def test_a_ranker_on_a_cluster_that_was_made_for_another_reward_is_refused(
    tiny_model: str, tmp_path: Path
) -> None:
    rayflow("cluster", "render", *SPLIT[1], "--output", tmp_path)
    with pytest.raises(ConfigError, match="'pair' cannot be placed"):
        rayflow(
            *("run", CONFIGS[-1].parents[1] / "quickstart.yaml", "--set", f"@{tmp_path / 'compute.yaml'}"),
            *("--set", f"model={tiny_model}", "--set", f"reward={{kind: ranker, model: {tiny_model}}}"),
            "--dry-run",
        )


def test_an_engine_over_four_gpus_is_placed_with_its_settings(tiny_model: str, tmp_path: Path) -> None:
    size = ("--gpus-sampling", 16, "--gpus-reward", 4, "--gpus-train", 8, "--set", "tensor_parallel=4")
    rayflow("cluster", "render", *size, "--output", tmp_path)
    chosen = ("--set", f"@{tmp_path / 'compute.yaml'}", "--set", f"model={tiny_model}", "--dry-run")
    text = rayflow("run", ROOT / "jobs/configs/quickstart.yaml", *chosen)
    (sample,) = [line for line in text.splitlines() if "02-sample" in line]
    assert "4 CPU" not in sample and "16 CPU, 4 GPU" in sample and "4 sampler" in sample
