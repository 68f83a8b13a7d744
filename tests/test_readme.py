"""What the README and its guides say, done: their examples are taken from the text and run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from rayflow.cli.app import app
from rayflow.config import PromptSource, RunConfig, load_config
from rayflow.core.given_rows import Example
from rayflow.core.registry import FAMILIES
from rayflow.errors import ConfigError
from rayflow.pipeline.candidates import sampled_steps
from rayflow.pipeline.placement import place
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.sources.read import read
from tests.pipeline.helpers import run_data, tables
from tests.readme import BLOCKS, GUIDES, ROOT, TEXT, block
from tests.rewards.conftest import pad_is_eos_model  # noqa: F401
from tests.rewards.test_http import ok, serve  # noqa: F401
from tests.test_whole import finished_run, small_settings


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with the README's Python files."""
    for kind, text in BLOCKS:
        named = re.match(r"# (\w+\.py)\n", text)
        if kind == "python" and named:
            (tmp_path / named.group(1)).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_own_prompts_model_reward_and_loss_run_as_shown(plugins: Path, tiny_model: str) -> None:
    prompts = plugins / "prompts.jsonl"
    prompts.write_text(block("json", '"target"'))
    settings = small_settings(plugins, prompts, tiny_model)
    settings |= yaml.safe_load(block("yaml", "my_reward:brevity"))
    settings["train"] |= yaml.safe_load(block("yaml", "my_loss:Ipo"))["train"]
    plan = finished_run(RunConfig.model_validate(settings))
    summary = json.loads((plan.config.root / "summary.json").read_text())
    assert summary["selection"]["num_prompts"] == 2
    first, *_ = (plan.artifacts["train"].folder / "metrics.jsonl").read_text().splitlines()
    at_the_reference = (1 / (2 * 0.2)) ** 2  # all ratios are 0 there
    assert json.loads(first)["loss"] == pytest.approx(at_the_reference, rel=1e-3)


@pytest.mark.parametrize("kind", ["ranker", "http", "ensemble"])
def test_the_other_rewards_score_and_label_as_shown(
    kind: str,
    tmp_path: Path,
    tiny_model: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a tiny model in the place of each path, and a server that answers every item with a number."""
    server = request.getfixturevalue("serve")(lambda items, _: ok([len(item["response"]) for item in items]))
    monkeypatch.setenv("REWARD_TOKEN", "secret")
    text = block("yaml", f"kind: {kind}").replace("/path/to/ranker", tiny_model)
    text = text.replace("/path/to/reward-model", request.getfixturevalue("pad_is_eos_model"))
    text = text.replace("http://127.0.0.1:8000/score", server.url)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(block("json", '"target"'))
    settings = small_settings(tmp_path, prompts, tiny_model) | yaml.safe_load(text)
    if kind == "ensemble":  # standardised, so that two models are not compared by it
        with pytest.raises(ConfigError, match="orders the responses of one prompt among themselves"):
            run_data(RunConfig.model_validate(settings))
        del settings["prompts"]["evaluation"]
    plan, _ = run_data(RunConfig.model_validate(settings))
    stored = tables(plan)
    assert len(stored["score"]) == len(stored["pair"]) == 2
    assert {row["label_source"] for row in stored["pair"]} == {"ranker" if kind == "ranker" else "reward"}
    if kind == "ensemble":
        assert [len(row["component_rewards"]) for row in stored["score"]] == [2, 2]
    if kind == "http":
        assert {headers["Authorization"] for headers in server.headers} == {"Bearer secret"}


LAYOUT_ROWS = re.findall(r"^\| `(\w+)` \|.*\| `(\{.*\})` \|$", TEXT, re.MULTILINE)


def test_every_layout_has_a_row() -> None:
    assert {kind for kind, _ in LAYOUT_ROWS} == {*FAMILIES["layout"]} - {"auto"}


@pytest.mark.parametrize(("kind", "row"), LAYOUT_ROWS)
def test_the_rows_of_the_layouts_are_read_as_shown(tmp_path: Path, kind: str, row: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(row)
    found, named = (next(read(PromptSource(path=str(path), layout=layout))) for layout in ("auto", kind))
    assert isinstance(found, Example) and found.prompt_id == named.prompt_id
    best = found.responses[found.pairs[0][0] if found.pairs else 0] if found.responses else found.target
    assert best.strip() in ("blue.", "Hello!", "Cat sleeps.")
    for option in re.findall(r"`(\w+): (\w+)`", TEXT[: TEXT.index(row)].rpartition("\n")[2]):
        setting = {"kind": kind, option[0]: yaml.safe_load(option[1])}
        changed = next(read(PromptSource(path=str(path), layout=setting)))
        assert changed.responses[0].strip() == best.strip()


def test_the_cluster_block_is_a_valid_configuration() -> None:
    cluster = yaml.safe_load(block("yaml", "address: auto"))
    quickstart = load_config(ROOT / "jobs/configs/quickstart.yaml").model_dump(mode="json")
    config = RunConfig.model_validate({**quickstart, **cluster})
    assert config.compute.sample.num_gpus == 1
    placed = place(build_run_plan(config))
    assert (dict(placed["sample"]), dict(placed["score"])) == ({"sampler": 16}, {"reward": 4})


def test_clusters_are_rendered_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    lines = [line for line in block("bash", "--gpu-type L4").splitlines() if "cluster render" in line]
    assert len(lines) == 2
    for number, line in enumerate(lines):
        arguments = shlex.split(line, comments=True)[1:]
        result = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / str(number))])
        assert result.exit_code == 0, result.output
    listed = set(re.findall(r"`([\w-]+\.yaml)`", TEXT[TEXT.index("| file | is |") :].split("\n\n")[0]))
    assert {path.name for path in (tmp_path / "0").iterdir()} == listed


def test_commands_name_files_and_options_that_exist() -> None:
    for line in block("bash", "jobs/quickstart.sh").splitlines():
        assert (ROOT / line.split()[1]).exists()
    for guide, text in GUIDES.items():
        for path in re.findall(r"\]\(((?!https?://)[^)#]+)", text):
            assert (guide.parent / path).exists(), (guide, path)


COMMANDS = [
    line
    for kind, text in BLOCKS
    if kind == "bash"
    for line in text.splitlines()
    if line.startswith("rayflow ")
]


def test_the_own_configuration_fits_the_machine_that_it_names(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    box = {"name": "box", "num_cpus": 64, "num_gpus": 8}
    path.write_text(block("yaml", "# mine.yaml"))
    config = load_config(path, [f"compute.nodes=[{json.dumps(box)}]"])
    placed = place(build_run_plan(config))
    assert placed["sample"] == {"box": 3} and placed["train"] == {"box": 8}
    with pytest.raises(ConfigError):
        place(build_run_plan(load_config(path, [f"compute.nodes=[{json.dumps(box | {'num_gpus': 7})}]"])))


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_take_the_arguments_that_are_shown(line: str) -> None:
    command, arguments = typer.main.get_command(app), shlex.split(line, comments=True)[1:]
    while hasattr(command, "commands"):
        name, *arguments = arguments
        command = command.commands[name]
    command.make_context(name, arguments)  # parses them, and runs nothing


def test_the_tables_list_what_there_is() -> None:
    for folder in (p for p in (ROOT / "rayflow").iterdir() if (p / "__init__.py").exists()):
        assert f"| `rayflow/{folder.name}` |" in TEXT
    for family in FAMILIES.values():
        for kind in family:
            assert f"`{kind}`" in TEXT, kind
    for name in RunConfig.model_fields:
        if name not in ("name", "runs_dir", "seed", "max_failed_fraction"):
            assert f"| `{name}` |" in TEXT, name


def test_every_ready_method_is_in_the_table() -> None:
    for path in (ROOT / "jobs" / "configs" / "methods").glob("*.yaml"):
        assert f"[{path.stem}](jobs/configs/methods/{path.name})" in TEXT


def test_the_chosen_checkpoint_is_configured_as_shown(tmp_path: Path) -> None:
    shown = yaml.safe_load(block("yaml", "choose:"))
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"extends": str(ROOT / "jobs" / "configs" / "quickstart.yaml"), **shown}))
    assert load_config(path).train.choose.patience == 3


def test_short_prompts_are_sampled_again_as_shown() -> None:
    shown = yaml.safe_load(block("yaml", "shortfall: resample"))
    quickstart = load_config(ROOT / "jobs/configs/quickstart.yaml").model_dump(mode="json")
    config = RunConfig.model_validate({**quickstart, **shown, "model": "fake"})
    assert [s.name for step in sampled_steps(config, "fake") for s in step] == [
        *(
            "prompts",
            "sample",
            "score",
            "resample-1",
            "rescore-1",
            "resample-2",
            "rescore-2",
            "select",
            "pair",
        )
    ]
