"""The border: what a mistake in a configuration says."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rayflow.config import RunConfig, load_config
from rayflow.config.reward import RewardConfig
from rayflow.errors import ConfigError

MINIMAL = {
    "name": "a",
    "model": "org/model",
    "prompts": {"train": {"path": "p.jsonl"}},
    "reward": {"kind": "rule", "function": "m:f"},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    return path


def test_defaults_are_the_papers(file: Path) -> None:
    config = load_config(file)
    assert (config.sample.num_candidates, config.sample.temperature, config.sample.top_k) == (64, 0.7, 40)
    assert (config.select.kind, config.select.beta, config.select.num_accepted) == ("rejection", 0.5, 8)
    assert (config.pair.kind, config.train.loss.kind, config.train.loss.gamma) == (
        "first_round",
        "sigmoid_norm",
        0.05,
    )


def test_a_layout_is_found_named_or_set(file: Path) -> None:
    assert load_config(file).prompts.train.layout.kind == "auto"
    named = load_config(file, ["prompts.train.layout=hh", "prompts.train.layout.chat=false"])
    assert named.prompts.train.layout.model_dump() == {"kind": "hh", "chat": False}


def test_overrides_are_yaml_and_reach_into_blocks(file: Path) -> None:
    config = load_config(file, ["select.beta=0.25", "pair=tournament", "train.loss.kind=hinge_norm"])
    assert (config.select.beta, config.pair.kind, config.train.loss.kind) == (
        0.25,
        "tournament",
        "hinge_norm",
    )


def test_the_settings_of_another_file_go_over_a_configuration_and_single_ones_over_them(
    file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "compute.yaml"
    compute = {"address": "auto", "sample": {"num_workers": 4}}
    other.write_text(yaml.safe_dump({"runs_dir": "/shared/runs", "compute": compute}))
    config = load_config(file, ["compute.score.num_workers=2", f"@{other}", "compute.address=head:6379"])
    assert (config.runs_dir, config.model) == ("/shared/runs", "org/model")
    assert (config.compute.sample.num_workers, config.compute.score.num_workers) == (4, 2)
    assert config.compute.address == "head:6379"
    with pytest.raises(ConfigError, match="none.yaml' does not exist"):
        load_config(file, [f"@{tmp_path / 'none.yaml'}"])


def test_the_resolved_configuration_reads_back_as_itself(file: Path, tmp_path: Path) -> None:
    config = load_config(file, ["seed=7"])
    stored = tmp_path / "resolved.yaml"
    stored.write_text(config.to_yaml())
    assert load_config(stored) == config


@pytest.mark.parametrize(
    "override, message",
    [
        ("sampel.top_k=3", "sampel: unknown key. Did you mean 'sample'?"),
        ("sample.temprature=1", "sample.temprature: unknown key. Did you mean 'temperature'?"),
        ("select.bta=1", "select.bta: unknown key. Did you mean 'beta'?"),
        ("train.loss={kind: hinge_nrm}", "Unknown loss kind 'hinge_nrm'. Did you mean 'hinge_norm'?"),
        ("train.loss.gama=1", "train.loss.gama: unknown key. Did you mean 'gamma'?"),
        ("seed=abc", "seed: Input should be a valid integer"),
        ("compute.sample.num_workers=0", "compute.sample.num_workers: Input should be greater than 0"),
        ("name=../x", "name: String should match pattern"),
        ("reward={function: 'm:f'}", "reward: needs a 'kind': one of"),
        ("prompts.train.layout=trll", "prompts.train.layout: Unknown layout kind 'trll'. Did you mean 'trl'"),
        ("prompts.train.layout={kind: hh, chta: 1}", "layout.chta: unknown key. Did you mean 'chat'?"),
        ("reward=no_such_module_here:Reward", "cannot import 'no_such_module_here'"),
        ("train.zero_stage=4", "train.zero_stage: Input should be 1, 2 or 3"),
    ],
)
def test_a_mistake_names_the_file_the_key_and_the_way_out(file: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(file, [override])
    assert str(file) in str(caught.value)
    assert message in str(caught.value)


def test_a_missing_key_and_all_other_mistakes_come_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"name": "a", "sedd": 1}))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    for part in ("model: is required", "reward: is required", "sedd: unknown key. Did you mean 'seed'?"):
        assert part in str(caught.value)


def test_files_that_are_no_configuration(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist. Did you mean .*run.yaml"):
        load_config(tmp_path / "rum.yaml")
    file.write_text("a: [1")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        load_config(file)
    file.write_text("- a")
    with pytest.raises(ConfigError, match="must hold a mapping"):
        load_config(file)
    file.write_text(yaml.safe_dump(MINIMAL))
    with pytest.raises(ConfigError, match="must have the form a.b=value"):
        load_config(file, ["seed"])
    with pytest.raises(ConfigError, match="'seed' is a value, not a block"):
        load_config(file, ["seed=1", "seed.x=2"])


def test_shipped_configurations_are_valid() -> None:
    configs = sorted(Path(__file__).parents[1].glob("jobs/configs/**/*.yaml"))
    assert configs
    for path in configs:
        schema = RewardConfig if path.parent.name == "reward" else RunConfig
        assert isinstance(load_config(path, schema=schema), schema)
